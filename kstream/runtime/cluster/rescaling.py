"""An app's state in another number of partitions: which sub-topologies that concerns, and what keeps them from it.

A key's state lies in the changelog's partition of the same number as the key's records. Where a sub-topology reads
repartition topics, these are the app's own: they are empty when it is done (a savepoint drains them), and are made anew
with as many partitions as are wanted. A topic that is not the app's own must have as many. Entries go to the partition
of their key, by the hash that Kafka's default partitioner takes. The rest is a restore of a savepoint (replacing.py).

What is looked at besides is in rescalable.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from kstream.config import Settings
from kstream.errors import UsageError
from kstream.runtime.cluster.metadata import NUMBERS, Said, decode, encode
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import TIMEOUT, bounds
from kstream.runtime.cluster.replacing import Committed, Plan
from kstream.runtime.cluster.reset import Place
from kstream.runtime.cluster.restoring import look
from kstream.state.savepoint import SavedTask, Savepoint
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, TopicPartition


@dataclass(frozen=True, slots=True)
class Move:
    """A sub-topology that gets another number of partitions.

    Attributes:
        before: partitions of its state; of its repartition topic, where it has none.
        grow: topics that are not the app's own, and have fewer than `after`.
    """

    part: SubTopology
    before: int
    after: int
    grow: tuple[str, ...] = ()

    @property
    def outside(self) -> list[str]:
        return [source.topic.name for source in self.part.sources if not source.topic.internal]


def moves_of(
    topology: Topology,
    partitions: int,
    counts: Mapping[str, int],
    topics: Mapping[str, int],
    *,
    only: Sequence[str] = (),
    parts: Collection[str] | None = None,
    grow: bool = False,
) -> list[Move]:
    """The sub-topologies concerned. One that has neither state nor a repartition topic has as many tasks as its
    inputs have partitions, and is not; one whose repartition topics declare `parallelism=` gets that many.

    Args:
        counts: what each has now, by its name (`counts_now`, `counts_saved`).
        topics: partitions of all topics.
        only: stores, inputs or names of sub-topologies; none: all.
        parts: these sub-topologies, by their names; None: all.
        grow: inputs that are not the app's own may be given more partitions.

    Raises:
        UsageError: one cannot have so many, and why.
    """
    unknown = [name for name in only if not any(name in _names(part) for part in topology.parts)]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: app {topology.app} has no store and no input of this name")
    found = []
    for part in topology.parts:
        own = [source.topic for source in part.sources if source.topic.internal]
        if (only and not _names(part) & set(only)) or not (part.stores or own):
            continue
        if parts is not None and part.name not in parts:
            continue
        declared = {topic.partitions for topic in own if topic.partitions is not None}
        if len(declared) > 1:
            raise UsageError(f"sub-topology {part.name} reads topics with parallelism={sorted(declared)}: declare one")
        after = declared.pop() if declared else partitions
        before = counts.get(part.name, 0)
        if not before:  # it has not been started yet
            continue
        move = Move(part, before, after, _checked(part, after, topics, grow=grow))
        if before != after or move.grow:
            _check_keys(move)
            found.append(move)
    _check_others(topology, found, counts)
    return found


def _check_others(topology: Topology, moves: Sequence[Move], counts: Mapping[str, int]) -> None:
    """Raises UsageError where an input gets more partitions that another sub-topology with state reads, too."""
    moved = {move.part.name for move in moves}
    growing = {topic: move for move in moves for topic in move.grow}
    for part in topology.parts:
        if part.stores and part.name not in moved:
            for topic in growing.keys() & set(part.topics):
                if counts.get(part.name, 0) != growing[topic].after:
                    raise UsageError(
                        f"sub-topology {part.name} reads topic {topic} too, and has state: its tasks would stop; do "
                        "not leave it out with --only"
                    )


def _names(part: SubTopology) -> set[str]:
    return {part.name, *part.topics, *(store.name for store in part.stores)}


def _checked(part: SubTopology, after: int, topics: Mapping[str, int], *, grow: bool) -> tuple[str, ...]:
    """The inputs that must get more partitions."""
    few = []
    for topic in (source.topic for source in part.sources if not source.topic.internal):
        now = topics.get(topic.name, 0)
        if now == after:
            continue
        if not now:
            raise UsageError(f"topic {topic.name} does not exist: the app has not been started yet")
        if now > after:
            raise UsageError(
                f"sub-topology {part.name} reads topic {topic.name}, which has {now} partitions, and Kafka takes none "
                f"away: copy it into a topic with {after}, let the app read that, and run this again with --inputs "
                "earliest; or leave it out with --only"
            )
        if topic.partitions is not None and topic.partitions != after:
            raise UsageError(
                f"topic {topic.name} is declared with {topic.partitions} partitions: declare {after}, or leave it out "
                "with --only"
            )
        if not grow:
            raise UsageError(
                f"sub-topology {part.name} reads topic {topic.name}, which has {now} partitions and is not the app's "
                f"own: add partitions to it with --grow-inputs, or by hand, or leave it out with --only. Its producers "
                "must be stopped then until the app runs again"
            )
        few.append(topic.name)
    return tuple(few)


def _check_keys(move: Move) -> None:
    """Raises UsageError where nothing says in which partition an entry belongs."""
    if move.before == move.after:
        return
    for store in move.part.stores:
        if store.scope == "partition":
            raise UsageError(
                f"the keys of store {store.name} belong to partitions (scope='partition'): nobody knows to which of "
                f"{move.after} they would go; leave sub-topology {move.part.name} out with --only"
            )
        keys = [source.topic.key for source in move.part.sources]
        if move.before == 1 and any(store.key.codec is not key.codec for key in keys):
            raise UsageError(
                f"store {store.name} has keys of type {store.key}, its input {' and '.join(map(str, keys))}: in a "
                "single partition nothing says which entry belongs to which record; build the state anew: kstream reset"
            )


def counts_now(topology: Topology, topics: Mapping[str, int]) -> dict[str, int]:
    """How many partitions each sub-topology has: its state, or else its repartition topics.

    Raises:
        UsageError: its changelogs differ.
    """
    found = {}
    for part in topology.parts:
        names = [topology.changelog(store) for store in part.stores]
        names = [name for name in names if name in topics] or [
            source.topic.name for source in part.sources if source.topic.internal and source.topic.name in topics
        ]
        if len({topics[name] for name in names}) > 1:
            shown = ", ".join(f"{name} ({topics[name]})" for name in names)
            raise UsageError(f"sub-topology {part.name} has topics with different numbers of partitions: {shown}")
        if names:
            found[part.name] = topics[names[0]]
    return found


def counts_saved(topology: Topology, savepoint: Savepoint) -> dict[str, int]:
    """The same, as a savepoint of the app has it."""
    own: dict[str, int] = {}
    for one in (one for task in savepoint.tasks for one in task.own):
        own[one.topic] = max(own.get(one.topic, 0), one.partition + 1)
    had = {topology.changelog(store): name for part in topology.parts for store in part.stores if (name := store.name)}
    state = {log: savepoint.stores[name].partitions for log, name in had.items() if name in savepoint.stores}
    return counts_now(topology, {**own, **state})


# ---- the plan


def plan_of(
    topology: Topology,
    admin: AdminClient,
    settings: Settings,
    savepoint: Savepoint,
    moves: Sequence[Move],
    topics: Mapping[str, int],
    *,
    inputs: Place | None,
) -> Plan:
    """What is to be done, with a savepoint of the app that was just made. Changes nothing.

    Args:
        topics: partitions of all topics, as they are now.
        inputs: where a topic begins that the app has never read.

    Raises:
        UsageError: it cannot be, and what to do.
        KafkaUnavailable: the cluster does not answer.
    """
    plan = look(
        topology, admin, settings, savepoint, rename={}, as_app=None, allow_dropped=False,
        rescaled={move.part.name: move.after for move in moves},
    )  # fmt: skip
    offsets = {group: dict(own) for group, own in plan.offsets.items()}
    beside = dict(plan.beside)
    for move in moves:
        said = _said(move, savepoint)
        own = offsets.setdefault(consumer_group(topology.app, move.part.group), {})
        _add_offsets(admin, move, own, said, topics, inputs)
        for topic in (name for name in move.part.topics if name not in move.outside):
            beside.update({TopicPartition(topic, number): text for number, text in enumerate(said)})
    moved = {store.name for move in moves if move.before != move.after for store in move.part.stores}
    return replace(plan, offsets=offsets, beside=beside, moved=frozenset(moved & plan.stores.keys()))


def _add_offsets(
    admin: AdminClient,
    move: Move,
    own: Committed,
    said: Sequence[str],
    topics: Mapping[str, int],
    inputs: Place | None,
) -> None:
    """Each partition of an input that is not the app's own gets an offset: new ones begin at their start."""
    ids = admin.describe(move.outside).result(TIMEOUT)
    for topic in move.outside:
        at = [TopicPartition(topic, number) for number in range(move.after)]
        known = any(each in own for each in at)
        if not known and inputs is None:
            raise UsageError(
                f"topic {topic} has no committed offsets: the app has never read it, or they are gone; --inputs "
                "earliest or latest says where that begins"
            )
        there = [each for each in at if each not in own and each.partition < topics[topic]]
        starts, ends = bounds(admin, there) if there else ({}, {})
        begin = starts if known or inputs == "earliest" else ends
        topic_id = ids[topic].id if topic in ids else None
        for each in at:
            offset = own[each][0] if each in own else begin.get(each, 0)
            own[each] = offset, encode(decode(said[each.partition], each)._replace(topic_id=topic_id))


def _said(move: Move, savepoint: Savepoint) -> list[str]:
    """What lies beside the offsets of each new partition: the latest times and the highest number of commits of the
    tasks that its keys come from. Time must not go back for an entry."""
    stores = {store.name for store in move.part.stores}
    tasks = [
        task
        for task in savepoint.tasks
        if task.partition < move.before
        and (stores & set(task.stores) if stores else task.name.rpartition("/")[0] == move.part.name)
    ]
    step = gcd(move.before, move.after)
    return [
        _latest(task for task in tasks if task.partition % step == number % step) for number in range(move.after)
    ]  # fmt: skip


def _latest(tasks: Iterable[SavedTask]) -> str:
    found = [
        decode(one.metadata, TopicPartition(one.topic, one.partition))
        for task in tasks
        for one in (*task.offsets, *task.own)
    ]
    said = {name: [getattr(each, name) for each in found] for name in NUMBERS}
    times = ("task_time", "input_time", "waited")  # windows that one of the tasks has open are not closed by another
    latest: dict[str, Any] = {
        name: min(one, default=0) if name in times else max(one, default=0) for name, one in said.items()
    }
    return encode(Said(**latest))
