"""A stopped app is given the state of a savepoint: its committed offsets, its changelogs, and so its state.

In this order, so that a restore that is broken off can be run again, and the app never starts in between: a note in
the control topic, which keeps it from starting; then the groups' offsets go, and the changelogs, repartition and delay
topics; these are made anew; the savepoint's entries are written to the changelogs; the offsets are committed; the note
goes. Each run does all of it: what the one before had done is deleted first. Local state is not touched: it is of the
changelogs that are gone (state/about.py), so each task rebuilds its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kstream.config import Settings
from kstream.errors import KafkaUnavailable, KStreamError, UsageError
from kstream.partitioning import partition_of
from kstream.runtime.cluster.control import Control, RestoreNote, check_own, ensure_topic, unfinished_restore
from kstream.runtime.cluster.metadata import decode, encode
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.records import TIMEOUT, bounds
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.stored_types import StoredType, keep_types
from kstream.runtime.cluster.writing import write_record
from kstream.specs.store import StoreSpec
from kstream.state.saved import Entries, entries_of
from kstream.state.savepoint import Savepoint
from kstream.state.snapshots.storage import Storage
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, Headers, ProducerClient, TopicPartition

FLUSH_SECONDS: Final = 120.0

Committed = dict[TopicPartition, tuple[int, str]]


@dataclass(frozen=True)
class Plan:
    """What a restore would do.

    Attributes:
        stores: of the app, and what each is called in the savepoint.
        new: stores of the app that begin empty; dropped: stores of the savepoint that the app does not have.
        offsets: by consumer group, what is committed of its inputs.
        groups: the consumer groups whose offsets go.
        topics: that are deleted; those that the app needs are made anew.
        beside: what lay beside the offsets of the app's own topics, as these are called now.
        types: that the entries of the app's stores may have.
        partitions: of the app's repartition topics, where nobody declares them.
        moved: stores of the app that have another number of partitions than in the savepoint: each entry goes to the
            partition of its key.
        notes: what the user should know.
    """

    savepoint: Savepoint
    stores: Mapping[str, str]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    offsets: Mapping[str, Committed]
    groups: tuple[str, ...]
    topics: tuple[str, ...]
    beside: Mapping[TopicPartition, str]
    types: tuple[StoredType, ...]
    partitions: Mapping[str, int] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def carry_out(
    plan: Plan,
    topology: Topology,
    clients: Clients,
    admin: AdminClient,
    settings: Settings,
    storage: Storage,
    on_progress: Callable[[int], None] = lambda entries: None,
    *,
    note: RestoreNote | None = None,
    on_begun: Callable[[], None] = lambda: None,
) -> int:
    """Does what `look` has found. Returns the number of entries that were written.

    Args:
        note: that the app has the state of neither before nor after, while this goes on; None: a restore's.
        on_begun: called when the app's state begins to be replaced.

    Raises:
        SnapshotError: the savepoint is damaged. StorageError: it cannot be read.
        UsageError: the app was started meanwhile, or another command replaces its state at the same time.
        KafkaUnavailable, TopicError: Kafka does not answer, or refuses. Run it again.
    """
    app, what = topology.app, f"savepoint {plan.savepoint.name} ({storage.url})"
    note = note or RestoreNote("kstream savepoint restore", what, time.time())
    ensure_topic(admin, app, settings.replication_factor)
    with closing(Control(clients, admin, app)) as control:
        other = unfinished_restore(clients, admin, app)
        control.write(note)
        try:  # who looked for the note before it was there is a member by now, or looks once more when it is
            check_stopped(topology, admin, plan.groups)
        except KStreamError:
            if other is not None:
                control.write(other)
            else:
                control.forget_restore()
            raise
        on_begun()
        for group in plan.groups:
            admin.delete_group(group).result(TIMEOUT)
        before = admin.describe(list(plan.topics)).result(TIMEOUT)
        admin.delete_topics(plan.topics, TIMEOUT)
        counts = prepare_topics(topology, admin, settings, own=plan.partitions)
        after = admin.describe([name for name in plan.topics if name in admin.topics(TIMEOUT)]).result(TIMEOUT)
        if still := [name for name, one in after.items() if one.id is not None and one.id == before[name].id]:
            raise KafkaUnavailable(f"topics {', '.join(still)} are being deleted still: run it again")
        check_own(clients, admin, app, note)
        written = _write_entries(plan, topology, clients, storage, counts, on_progress)
        check_own(clients, admin, app, note)
        _check_written(plan, topology, admin, counts, written)
        keep_types(topology, clients, admin, plan.types, int(time.time() * 1000))
        _commit_offsets(plan, topology, admin)
        check_own(clients, admin, app, note)
        control.forget_restore()
    return written


def check_stopped(topology: Topology, admin: AdminClient, groups: Sequence[str]) -> None:
    """Raises UsageError where one of these consumer groups has members."""
    for group in groups:
        if members := answer(lambda group=group: admin.members(group), f"the members of group {group}"):  # type: ignore[misc]
            raise UsageError(
                f"group {group} has {len(members)} member{'' if len(members) == 1 else 's'}: stop all instances of "
                f"{topology.app} first (one that was killed, or has a name and on_stop=stay, is a member until its "
                "session_timeout is over: then try again)"
            )


def _write_entries(
    plan: Plan,
    topology: Topology,
    clients: Clients,
    storage: Storage,
    counts: Mapping[str, int],
    on_progress: Callable[[int], None],
) -> int:
    changelogs = {
        plan.stores[store.name]: topology.changelog(store)
        for part in topology.parts
        for store in part.stores
        if store.name in plan.stores
    }
    moved = {plan.stores[name]: counts[changelogs[plan.stores[name]]] for name in plan.moved}
    with closing(clients.producer(None)) as producer, TemporaryDirectory(prefix="kstream-") as scratch:
        writer = EntryWriter(producer, on_progress)
        specs = specs_of(plan, topology)
        found: Entries = entries_of(storage, plan.savepoint, frozenset(changelogs), specs, Path(scratch))
        for store, partition, entries in found:
            changelog, count = changelogs[store], moved.get(store)
            for key, value, headers in entries:
                to = partition if count is None else partition_of(specs[store].home_key(key), count)
                writer.write(changelog, to, key, value, headers)
        writer.finish()
    return writer.written


def _check_written(plan: Plan, topology: Topology, admin: AdminClient, counts: Mapping[str, int], written: int) -> None:
    """Raises UsageError where the changelogs, which were made anew, have other records than ours: those of a run that
    was overtaken."""
    logs = [topology.changelog(store) for part in topology.parts for store in part.stores if store.name in plan.stores]
    at = [TopicPartition(name, number) for name in logs for number in range(counts[name])]
    found = sum(bounds(admin, at)[1].values()) if at else 0
    if found != written:
        raise UsageError(
            f"{written:,} entries were written to the changelogs of app {topology.app}, and they have {found:,} "
            "records: another command writes to them at the same time; when it is through, run this again"
        )


class EntryWriter:
    """Writes entries to changelogs, outside any transaction: the app does not run."""

    def __init__(self, producer: ProducerClient, on_progress: Callable[[int], None]) -> None:
        self._producer, self._on_progress = producer, on_progress
        self.written = 0

    def write(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers | None) -> None:
        write_record(self._producer, topic, value, key, partition, 0, headers)
        self.written += 1
        if self.written % 10_000 == 0:
            self._producer.poll(0.0)
            self._on_progress(self.written)

    def finish(self) -> None:
        """All of them are there when this returns. Raises ProducerLost where one is not."""
        self._producer.flush(FLUSH_SECONDS)
        self._on_progress(self.written)


def specs_of(plan: Plan, topology: Topology) -> dict[str, StoreSpec]:
    """The app's stores, as they are called in the savepoint."""
    specs = {store.name: store for part in topology.parts for store in part.stores}
    return {old: specs[new] for new, old in plan.stores.items()}


def _commit_offsets(plan: Plan, topology: Topology, admin: AdminClient) -> None:
    """Those of the savepoint; of the app's own topics, which are new, the start: state without offsets would be taken
    for lost offsets."""
    counts = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
    for isolation in topology.groups:
        group = consumer_group(topology.app, isolation)
        offsets = {
            at: (offset, _moved(text, at, decode(text, at).topic_id))
            for at, (offset, text) in plan.offsets.get(group, {}).items()
        }
        parts = topology.of_group(isolation).parts
        own = {source.topic.name for part in parts for source in part.sources if source.topic.internal}
        own |= {delay.topic for part in parts for delay in part.delays}
        ids = admin.describe(list(own)).result(TIMEOUT)
        for topic in own:
            topic_id = ids[topic].id if topic in ids else None
            for number in range(counts[topic]):
                at = TopicPartition(topic, number)
                offsets[at] = 0, _moved(plan.beside.get(at, ""), at, topic_id)
        if offsets:
            answer(lambda group=group, offsets=offsets: admin.set_committed(group, offsets), f"the offsets of {group}")  # type: ignore[misc]


def _moved(text: str, at: TopicPartition, topic_id: str | None) -> str:
    """What lay beside an offset, for the app as it is now: the changelogs are others, and it may read other inputs."""
    return encode(decode(text, at)._replace(topic_id=topic_id, inputs="", changelogs=""))
