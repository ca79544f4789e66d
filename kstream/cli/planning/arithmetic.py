"""From what a record costs to how much of everything a rate takes. Pure: numbers in, numbers out.

Seconds, bytes and records a second throughout. What is measured is in `Cost`, what is wanted in `Target`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, inf
from typing import Final, Literal

import msgspec

from kstream.cli.planning.recovery import demand, duration
from kstream.errors import ConfigError

UTILISATION: Final = 0.7
"""Share of its time that a worker is to be busy: the rest is for bursts, restores, and catching up after a restart."""
HEAD_ROOM: Final = 2
"""Partitions for each worker, at least: so many times the workers can become more before topics must change."""
SUPERVISOR_MEMORY: Final = 128 << 20
"""Of an instance besides its workers, with the status page open."""
MEMORY_MARGIN: Final = 1.25
"""On the resident memory measured: a few seconds do not show how far it goes."""
DISK_FACTOR: Final = 2.0
"""Disk for each byte of keys and values: RocksDB needs room to rewrite what it has."""
CHANGELOG_FACTOR: Final = 2.0
"""Records in a changelog for each entry: Kafka compacts once half of the log is out of date."""
RESTORE_RECORDS: Final = 500_000.0
"""Changelog records a second that a worker restores (benchmarks/RESULTS.md: 580,802)."""
RESTORE_BYTES: Final = 100e6
"""Bytes a second that a worker restores where entries are large: an assumption about network and disk."""
REPLICATION: Final = 3


Bound = Literal["nothing", "spare", "cores", "memory", "partitions"]


class PartCost(msgspec.Struct, frozen=True):
    """What was measured of one sub-topology.

    Attributes:
        records: into it, for each input record of the app.
        time: of a worker's loop, for each record into it: work, and waiting for what comes after it.
        cpu: of processors, for each record into it, all threads of the worker.
        busiest: the busiest task's share of its records, beside an even share: 1 is even.
        writes: the topics it writes, changelogs aside.
    """

    name: str
    group: str
    topics: list[str]
    writes: list[str]
    records: float
    time: float
    cpu: float
    busiest: float = 1.0


class StoreCost(msgspec.Struct, frozen=True):
    """What was measured of one store: entries, and bytes of an entry's key and value in the mean."""

    name: str
    part: str
    entries: int
    entry: float


class Cost(msgspec.Struct, frozen=True):
    """What was measured, for each input record where nothing else is said.

    Attributes:
        records: how many were measured, in `seconds`.
        sample: records in the sample; fewer than were measured when it was repeated.
        keys: distinct keys in the sample; `hottest` is the share of all records that the most frequent key has.
        input_bytes: keys and values of the input alone; read_bytes: of all that is read, repartition topics included;
            written_bytes: of all that is written, changelogs included. Before compression.
        written: records written, changelogs included; changelog: those to changelogs.
        waiting: share (0..1) of the workers' time that was waiting: for brokers, or for agents that await something.
        others: share (0..1) of the machine's processors that went to what has nothing to do with it.
        memory: resident, of the largest worker.
        passed: seconds that went by for each record while a group was measured, with one worker; by group.
    """

    records: int
    seconds: float
    sample: int
    keys: int
    hottest: float
    input_bytes: float
    read_bytes: float
    written_bytes: float
    written: float
    changelog: float
    waiting: float
    others: float
    memory: int
    parts: list[PartCost]
    stores: list[StoreCost] = []
    cores: int = 1
    passed: dict[str, float] = {}

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(part.group for part in self.parts))


class Target(msgspec.Struct, frozen=True):
    """What is wanted, and of what it is to be made.

    Attributes:
        rate: input records a second.
        cores, memory: of an instance; without memory, as much as its workers take.
        partitions: of the input topics, where their number is given.
        keys: entries expected, by store; "" for all stores that are not named.
        worker_memory: the setting `memory`. commit_interval: the setting.
        instances: of each isolation group, at least.
        recover_within: seconds in which an hour down is to be caught up, with all state to be restored.
    """

    rate: float
    cores: int
    memory: int | None = None
    partitions: int | None = None
    keys: dict[str, int] = {}
    worker_memory: int = 512 << 20
    commit_interval: float = 0.2
    instances: int = 1
    recover_within: float | None = None


class GroupPlan(msgspec.Struct, frozen=True):
    """One isolation group.

    Attributes:
        load: workers that would be busy all the time; `cores` processors, likewise.
        needed: workers at `UTILISATION`; `workers` those of all instances.
        partitions: of the topics it reads. capacity: records a second at `UTILISATION`.
        bound_by: what decides on the number of instances; spare: as many as were asked for at least; partitions where
            there are too few to have so many.
        wanted_cores: of all instances. recovery: seconds in which an hour down is caught up.
    """

    name: str
    time: float
    cpu: float
    load: float
    cores: float
    needed: int
    partitions: int
    instances: int
    workers_per_instance: int
    capacity: float
    memory_per_instance: int
    bound_by: Bound
    wanted_cores: float
    recovery: float

    @property
    def workers(self) -> int:
        return self.instances * self.workers_per_instance


class PartPlan(msgspec.Struct, frozen=True):
    """One sub-topology: records a second into it, workers' worth of work, the fewest partitions with which no task is
    more than a worker bears, and the proposal."""

    name: str
    group: str
    rate: float
    load: float
    least: int
    partitions: int


class StatePlan(msgspec.Struct, frozen=True):
    """All stores. `bytes` are keys and values; `disk` is of one instance; `restore` is the time in which an instance
    with an empty disk has its state again."""

    entries: int
    bytes: float
    per_task: float
    disk: int
    restore: float
    assumed: bool


class BrokerPlan(msgspec.Struct, frozen=True):
    """What the brokers carry, before compression: bytes a second written by clients, on all their disks, and read by
    clients and followers."""

    written: float
    on_disks: float
    read: float


class Plan(msgspec.Struct, frozen=True):
    rule_of_thumb: int
    worker_memory: int
    groups: list[GroupPlan]
    parts: list[PartPlan]
    partitions: dict[str, int]
    state: StatePlan
    brokers: BrokerPlan
    capacity: float

    @property
    def workers(self) -> int:
        return sum(group.workers for group in self.groups)

    @property
    def instances(self) -> int:
        return sum(group.instances for group in self.groups)


def make_plan(cost: Cost, target: Target) -> Plan:
    """The proposal.

    Raises:
        ConfigError: an instance has too little memory for one worker.
    """
    worker_memory = max(target.worker_memory, ceil(cost.memory * MEMORY_MARGIN))
    most = _most_workers(target.memory, worker_memory)
    groups = [_group(name, cost, target, worker_memory, most) for name in cost.groups]
    partitions = _partitions_by_topic(cost.parts, {group.name: group.partitions for group in groups})
    parts = [_part(part, target.rate, partitions[part.topics[0]]) for part in cost.parts]
    return Plan(
        rule_of_thumb=rule_of_thumb(target.rate, target.cores),
        worker_memory=worker_memory,
        groups=groups,
        parts=parts,
        partitions=partitions,
        state=_state(cost, target, parts, groups),
        brokers=_brokers(cost, target.rate),
        capacity=min(group.capacity for group in groups),
    )


def rule_of_thumb(rate: float, cores: int) -> int:
    """Workers, as one would say without measuring."""
    if rate < 1000:
        return max(1, cores // 2)
    return cores if rate < 10_000 else 2 * cores


def regular(number: float) -> int:
    """The least number, not below this one, whose only prime factors are 2, 3 and 5: many numbers divide it, so that
    partitions spread evenly over many numbers of workers. At most a quarter more, with large numbers far less."""
    wanted = max(1, ceil(number))
    found = 1 << (wanted - 1).bit_length()
    five = 1
    while five < found:
        three = five
        while three < found:
            found = min(found, three << (ceil(wanted / three) - 1).bit_length())
            three *= 3
        five *= 5
    return found


# ---- workers, partitions, instances


def _group(name: str, cost: Cost, target: Target, worker_memory: int, most: float) -> GroupPlan:
    parts = [part for part in cost.parts if part.group == name]
    time = sum(part.records * part.time for part in parts)
    cpu = sum(part.records * part.cpu for part in parts)
    load, cores = target.rate * time, target.rate * cpu
    hurried = target.rate * max(time, cost.passed.get(name, 0.0))  # no worker does more than one was seen to do
    restore = restore_work(cost, target).get(name, 0.0)
    wanted = max(load / UTILISATION, demand(hurried, restore, target.recover_within))
    wanted_cores = max(cores / UTILISATION, demand(cores, restore, target.recover_within))
    by_cores = max(1, ceil(wanted_cores / target.cores))
    if target.partitions is None:
        # never fewer workers than instances, so never fewer partitions than workers
        needed = regular(max(wanted, by_cores, target.instances))
        partitions = HEAD_ROOM * needed
    else:
        partitions = target.partitions
        needed = max(_workers_for(partitions, wanted), min(target.instances, partitions))
    by_memory = ceil(needed / most)
    instances = min(max(by_cores, by_memory, target.instances), needed)
    each = ceil(needed / instances)
    share = ceil(partitions / (instances * each)) / partitions  # of the worker that has most
    return GroupPlan(
        name=name,
        time=time,
        cpu=cpu,
        load=load,
        cores=cores,
        needed=needed,
        partitions=partitions,
        instances=instances,
        workers_per_instance=each,
        capacity=UTILISATION * min(_inverse(time * share), _inverse(cpu) * instances * target.cores),
        memory_per_instance=target.memory or each * worker_memory + SUPERVISOR_MEMORY,
        bound_by=_bound(instances, by_cores, by_memory, target.instances),
        wanted_cores=wanted_cores,
        recovery=max(duration(1 / share, hurried, restore), duration(float(instances * target.cores), cores, restore)),
    )


def _bound(instances: int, by_cores: int, by_memory: int, least: int) -> Bound:
    if instances < max(by_cores, by_memory, least):
        return "partitions"
    if instances == 1:
        return "nothing"
    if least > max(by_cores, by_memory):
        return "spare"
    return "memory" if by_memory > by_cores else "cores"


def _workers_for(partitions: int, wanted: float) -> int:
    """Workers among which a given number of partitions can be shared out so that none has too much; all partitions one
    by one, when even that is too much."""
    each = floor(partitions / wanted) if wanted else partitions
    return ceil(partitions / max(1, min(each, partitions)))


def _most_workers(memory: int | None, worker_memory: int) -> float:
    if memory is None:
        return inf
    most = (memory - SUPERVISOR_MEMORY) // worker_memory
    if most < 1:
        raise ConfigError(
            f"--memory {memory / 2**20:.0f}MiB is too little for one worker ({worker_memory / 2**20:.0f} MiB) and its "
            f"supervisor ({SUPERVISOR_MEMORY >> 20} MiB): give more, or lower the setting memory"
        )
    return most


def _partitions_by_topic(parts: Sequence[PartCost], by_group: Mapping[str, int]) -> dict[str, int]:
    """As many as the group that reads a topic needs; the most, where several read it, or where one part reads several:
    the inputs of a part must have equal counts."""
    counts: dict[str, int] = {}
    changed = True
    while changed:
        changed = False
        for part in parts:
            most = max(by_group[part.group], *(counts.get(topic, 0) for topic in part.topics))
            for topic in part.topics:
                changed = changed or counts.get(topic) != most
                counts[topic] = most
    return counts


def _part(part: PartCost, rate: float, partitions: int) -> PartPlan:
    load = rate * part.records * part.time
    return PartPlan(part.name, part.group, rate * part.records, load, max(1, ceil(load / UTILISATION)), partitions)


# ---- state and brokers


def entries_of(store: StoreCost, target: Target) -> int:
    """As expected, or as in the sample."""
    return target.keys.get(store.name, target.keys.get("", store.entries))


def restore_work(cost: Cost, target: Target) -> dict[str, float]:
    """Seconds that one worker would take to restore all state of a group, by group."""
    group_of = {part.name: part.group for part in cost.parts}
    work: dict[str, float] = {}
    for store in cost.stores:
        entries = entries_of(store, target)
        seconds = entries / RESTORE_RECORDS + entries * store.entry / RESTORE_BYTES
        work[group_of[store.part]] = work.get(group_of[store.part], 0.0) + CHANGELOG_FACTOR * seconds
    return work


def _state(cost: Cost, target: Target, parts: Sequence[PartPlan], groups: Sequence[GroupPlan]) -> StatePlan:
    partitions = {part.name: part.partitions for part in parts}
    group_of = {part.name: part.group for part in parts}
    instances = {group.name: group.instances for group in groups}
    workers = {group.name: group.workers for group in groups}
    known = {one.name: entries_of(one, target) for one in cost.stores}
    per_task: dict[str, float] = {}
    disks: dict[str, float] = {}
    for store in cost.stores:
        entries, group = known[store.name], group_of[store.part]
        size = entries * store.entry
        per_task[store.part] = per_task.get(store.part, 0.0) + size / partitions[store.part]
        disks[group] = disks.get(group, 0.0) + DISK_FACTOR * size / instances[group]
    return StatePlan(
        entries=sum(known.values()),
        bytes=sum(known[store.name] * store.entry for store in cost.stores),
        per_task=max(per_task.values(), default=0.0),
        disk=ceil(max(disks.values(), default=0.0)),
        restore=max((work / workers[group] for group, work in restore_work(cost, target).items()), default=0.0),
        assumed=any(store.name not in target.keys and "" not in target.keys for store in cost.stores),
    )


def _brokers(cost: Cost, rate: float) -> BrokerPlan:
    written = rate * (cost.input_bytes + cost.written_bytes)
    return BrokerPlan(written, REPLICATION * written, rate * cost.read_bytes + (REPLICATION - 1) * written)


def _inverse(seconds: float) -> float:
    return 1 / seconds if seconds > 0 else inf
