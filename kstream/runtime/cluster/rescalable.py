"""What is looked at before an app's state moves to another number of partitions (rescaling.py): whether it would be
exact.

Each entry must lie where the hash that is to move it puts it now. What is not yet read of a topic that gets more
partitions, or has got them, lies where the old number put it: with the new one its key's state is elsewhere, so such
records are looked for, one by one. And nothing may have been committed since the savepoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kstream.config import Settings
from kstream.errors import UsageError
from kstream.partitioning import partition_of
from kstream.runtime.cluster.metadata import decode
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.regroup import answer, committed
from kstream.runtime.cluster.replacing import Committed, Plan, specs_of
from kstream.runtime.cluster.rescaling import Move
from kstream.runtime.cluster.sizes import batches_of, limit_of, refuse_batch, refuse_large
from kstream.specs.store import StoreSpec
from kstream.state.saved import entries_of
from kstream.state.savepoint import Savepoint
from kstream.state.snapshots.storage import Storage
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clients, TopicPartition


@dataclass(slots=True)
class Weighed:
    """What a store has."""

    entries: int = 0
    size: int = 0


def weigh(
    plan: Plan,
    topology: Topology,
    settings: Settings,
    admin: AdminClient,
    storage: Storage,
    moves: Sequence[Move],
    on_progress: Callable[[int], None] = lambda entries: None,
) -> dict[str, Weighed]:
    """Reads all entries of the savepoint, and returns what each store of the app has.

    Raises:
        UsageError: keys are not where Kafka's default partitioner puts them, so nobody knows where to put them now; or
            an entry is too large for Kafka.
        SnapshotError: a file of the savepoint is damaged. StorageError: it cannot be read.
    """
    before = {store.name: move.before for move in moves for store in move.part.stores if store.name in plan.moved}
    names = {old: new for new, old in plan.stores.items()}
    found = {name: Weighed() for name in plan.stores}
    total = 0
    with TemporaryDirectory(prefix="kstream-") as scratch:
        specs = specs_of(plan, topology)
        limits = {old: limit_of(spec, settings) for old, spec in specs.items()}
        batches = batches_of(topology, specs, settings, admin)
        for old, partition, entries in entries_of(storage, plan.savepoint, frozenset(names), specs, Path(scratch)):
            store, count = found[names[old]], before.get(names[old])
            limit, most = limits[old], batches.get(old)
            for key, value, _ in entries:
                refuse_large(specs[old], key, value, limit)
                if most is not None:
                    refuse_batch(specs[old], key, value, most, settings.compression)
                home = None if count is None else partition_of(specs[old].home_key(key), count)
                if home is not None and home != partition:
                    raise UsageError(
                        f"store {old}: the key {_shown(specs[old], key)} lies in partition {partition}, and Kafka's "
                        f"default partitioner puts it into {home} of {count}: what writes its "
                        "input has another one, so nobody knows where keys belong among more partitions"
                    )
                store.entries += 1
                store.size += len(key) + len(value)
                total += 1
                if total % 10_000 == 0:
                    on_progress(total)
    return found


def _shown(spec: StoreSpec, key: bytes) -> str:
    try:
        return repr(spec.key.codec.decode(key))
    except Exception:  # a codec of the user's may raise anything; the bytes say it too
        return repr(key)


def check_unread(
    clients: Clients,
    admin: AdminClient,
    move: Move,
    topics: Mapping[str, int],
    offsets: Mapping[TopicPartition, tuple[int, str]],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Whether what the app has not read yet of its inputs lies where the new number of partitions puts it.

    Args:
        topics: how many partitions they have now.
        offsets: where the app goes on.

    Raises:
        UsageError: some records do not, how many, and what to do. KafkaUnavailable: they cannot be read.
    """
    for topic in move.outside:
        at = [TopicPartition(topic, number) for number in range(topics[topic])]
        firsts, ends = bounds(admin, at)
        starts = {each: max(firsts[each], offsets[each][0] if each in offsets else 0) for each in at}
        wrong = 0
        with closing(Reading(clients, admin, starts, ends, waits=True)) as reading:
            for row in to_end(reading, on_progress):
                if row.key is not None and partition_of(row.key, move.after) != row.at.partition:
                    wrong += 1
        if not wrong:
            continue
        lies = (
            f"{wrong:,} record{'' if wrong == 1 else 's'} of topic {topic} that the app has not read yet lie where "
            f"{move.after} partitions do not put them, so the state of their keys would be elsewhere"
        )
        if topic in move.grow:
            raise UsageError(
                f"{lies}: start the app if it does not run, stop what writes to {topic}, wait until kstream lag shows "
                "that nothing waits, and run this again; nothing was changed"
            )
        raise UsageError(
            f"{lies}: they were written before it had so many (or by a producer with another partitioner), and "
            f"cannot be moved there; copy what is not read of {topic} into a topic with {move.after} partitions, let "
            "the app read that, and run this again with --inputs earliest; or build the state anew: kstream reset"
        )


def committed_now(topology: Topology, admin: AdminClient, part: SubTopology, topics: Mapping[str, int]) -> Committed:
    """What is committed of a sub-topology's inputs."""
    group = consumer_group(topology.app, part.group)
    at = [TopicPartition(name, number) for name in part.topics for number in range(topics.get(name, 0))]
    return committed(admin, group, at)


def check_unmoved(topology: Topology, admin: AdminClient, savepoint: Savepoint) -> None:
    """Whether nothing was committed since the savepoint.

    Raises:
        UsageError: something was, or the app runs. KafkaUnavailable: the cluster does not answer.
    """
    for isolation in {task.group for task in savepoint.tasks}:
        group = consumer_group(topology.app, isolation)
        if answer(lambda group=group: admin.members(group), f"the members of group {group}"):  # type: ignore[misc]
            raise UsageError(_went_on(f"group {group} has members"))
        saved = {
            TopicPartition(one.topic, one.partition): one
            for task in savepoint.tasks
            if task.group == isolation
            for one in (*task.offsets, *task.own)
        }
        for at, (offset, metadata) in committed(admin, group, list(saved)).items():
            one = saved[at]
            if offset != one.offset or decode(metadata, at).commit != decode(one.metadata, at).commit:
                raise UsageError(_went_on(f"{at} was committed at {one.offset} and is at {offset} now"))


def _went_on(why: str) -> str:
    return (
        f"the app went on after it was stopped ({why}): something starts its instances again; scale it to 0, or stop "
        "what starts them, and run this again"
    )


def grow_inputs(admin: AdminClient, wanted: Mapping[str, int]) -> None:
    """Gives inputs so many partitions.

    Raises:
        TopicError: the cluster refuses. KafkaUnavailable: it does not answer.
    """
    admin.add_partitions(wanted, TIMEOUT)
    at = [TopicPartition(topic, number) for topic, count in wanted.items() for number in range(count)]
    # a broker that leads a new partition may not know it yet
    for ask in (admin.start_offsets, admin.end_offsets):
        answer(lambda ask=ask: ask(at), f"the offsets of {', '.join(wanted)}")  # type: ignore[misc]
