"""A stopped app is given the state of a savepoint: its committed offsets, its changelogs, and so its state.

In this order, so that a restore that is broken off can be run again, and the app never starts in between: a note in
the control topic, which keeps it from starting; then the groups' offsets go, and the changelogs, repartition and delay
topics; these are made anew; the savepoint's entries are written to the changelogs; the offsets are committed; the note
goes. Each run does all of it: what the one before had done is deleted first. Local state is not touched: it is of the
changelogs that are gone (state/about.py), so each task rebuilds its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kstream.config import Settings
from kstream.errors import KafkaUnavailable, UsageError
from kstream.runtime.cluster.control import Control, RestoreNote, ensure_topic
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.prepare import go_through, prepare_topics
from kstream.runtime.cluster.records import TIMEOUT, bounds
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.stored_types import StoredType, keep_types, refuse_misfits
from kstream.runtime.cluster.topics import INTERNAL, WantedTopic
from kstream.specs.store import StoreSpec
from kstream.state.parquet import check_installed
from kstream.state.saved import Entries, entries_of
from kstream.state.savepoint import Savepoint
from kstream.state.snapshots.storage import Storage
from kstream.topology import SubTopology, Topology
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
    notes: list[str] = field(default_factory=list)


def look(
    topology: Topology,
    admin: AdminClient,
    settings: Settings,
    savepoint: Savepoint,
    *,
    rename: Mapping[str, str],
    as_app: str | None,
    allow_dropped: bool,
) -> Plan:
    """What is to be done. Changes nothing.

    Args:
        rename: stores of the savepoint, and what the app calls them.
        as_app: the app's name, where it is not that of the savepoint: so it is meant.

    Raises:
        UsageError: it cannot be, and what to do.
        ConfigError: the savepoint is in canonical form, and pyarrow is not installed.
        KafkaUnavailable: the cluster does not answer.
    """
    if savepoint.format == "canonical":
        check_installed()
    there = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
    _check_app(topology, savepoint, as_app)
    groups = [consumer_group(topology.app, isolation) for isolation in topology.groups]
    if savepoint.app == topology.app:
        groups += [consumer_group(topology.app, task.group) for task in savepoint.tasks]
    groups = list(dict.fromkeys(groups))
    check_stopped(topology, admin, groups)
    own = {store.name: part for part in topology.parts for store in part.stores}
    stores = _stores(own, savepoint, rename)
    dropped = tuple(old for old in savepoint.stores if old not in stores.values())
    if dropped and not allow_dropped:
        raise UsageError(
            f"the savepoint has state of {', '.join(dropped)}, which app {topology.app} does not have: --rename "
            "OLD=NEW if it is called otherwise now, --allow-dropped if it is to be given up"
        )
    _check_partitions(topology, there, settings, savepoint, stores, own)
    names = {old: new for new, old in stores.items()}
    types = tuple(StoredType(names[one.store], one.key, one.value) for one in savepoint.types if one.store in names)
    if settings.changed_types != "continue":
        refuse_misfits(topology, admin, types)
    notes: list[str] = []
    for new, old in stores.items():
        notes += _changed_types(topology, new, savepoint, old)
    offsets = _offsets(topology, savepoint, stores)
    notes += _check_inputs(admin, savepoint, there, offsets)
    internal = [topology.changelog(store) for part in topology.parts for store in part.stores]
    internal += [source.topic.name for part in topology.parts for source in part.sources if source.topic.internal]
    internal += [delay.topic for part in topology.parts for delay in part.delays]
    if savepoint.app == topology.app:
        internal += [f"{topology.app}-{old}-changelog" for old in savepoint.stores]
    topics = tuple(name for name in dict.fromkeys(internal) if name in there)
    new_stores = tuple(name for name in own if name not in stores)
    return Plan(
        savepoint,
        stores,
        new_stores,
        dropped,
        offsets,
        tuple(groups),
        topics,
        _beside(topology, savepoint),
        types,
        notes,
    )


def _check_app(topology: Topology, savepoint: Savepoint, as_app: str | None) -> None:
    if as_app is not None and as_app != topology.app:
        raise UsageError(f"--as {as_app}: this app is called {topology.app}")
    if savepoint.app != topology.app and as_app is None:
        raise UsageError(
            f"the savepoint is of app {savepoint.app}, this one is {topology.app}: --as {topology.app} if that is meant"
        )


def check_stopped(topology: Topology, admin: AdminClient, groups: list[str]) -> None:
    for group in groups:
        if members := answer(lambda group=group: admin.members(group), f"the members of group {group}"):  # type: ignore[misc]
            raise UsageError(
                f"group {group} has {members} member{'' if members == 1 else 's'}: stop all instances of "
                f"{topology.app} first (one that was killed is a member until its session_timeout is over)"
            )


def _stores(own: Mapping[str, SubTopology], savepoint: Savepoint, rename: Mapping[str, str]) -> dict[str, str]:
    for old, new in rename.items():
        if old not in savepoint.stores:
            there = ", ".join(savepoint.stores) or "none"
            raise UsageError(f"--rename {old}={new}: the savepoint has no store {old}; it has {there}")
        if new not in own:
            raise UsageError(f"--rename {old}={new}: the app has no store {new}; it has {', '.join(own) or 'none'}")
    stores: dict[str, str] = {}
    for old in savepoint.stores:
        new = rename.get(old, old)
        if new not in own:
            continue
        if new in stores:
            raise UsageError(f"store {new} would have the state of {stores[new]} and of {old}: rename one of them")
        stores[new] = old
    return stores


def _check_partitions(
    topology: Topology,
    there: Mapping[str, int],
    settings: Settings,
    savepoint: Savepoint,
    stores: Mapping[str, str],
    own: Mapping[str, SubTopology],
) -> None:
    """As the topics will be when the app's own are made anew."""

    def settle(wanted: list[WantedTopic]) -> dict[str, int]:
        return {
            one.name: (there.get(one.name) if one.kind not in INTERNAL else None)
            or one.partitions
            or one.made_with
            or settings.default_partitions
            for one in wanted
        }

    counts = go_through(topology, settle, {})  # type: ignore[arg-type]  # it gives lists
    for new, old in stores.items():
        was, will = savepoint.stores[old].partitions, counts[own[new].topics[0]]
        if was != will:
            topic = own[new].topics[0]
            raise UsageError(
                f"store {old} has {was} partitions in the savepoint, and would have {will}, as many as topic {topic}: "
                f"a savepoint is restored with the partitions it was made with; read a topic that has {was}"
            )


def _changed_types(topology: Topology, new: str, savepoint: Savepoint, old: str) -> Iterator[str]:
    spec = next(store for part in topology.parts for store in part.stores if store.name == new)
    was = savepoint.stores[old]
    for side, then, now in (("key", was.key, str(spec.key)), ("value", was.value, str(spec.value))):
        if then != now:
            yield f"the {side} of store {new} was {then} and is {now}: entries must be readable as that"


def _offsets(topology: Topology, savepoint: Savepoint, stores: Mapping[str, str]) -> dict[str, Committed]:
    """Of each input of the app, by consumer group.

    A sub-topology may have moved to another isolation group. State and offsets belong together, so its stores say in
    which it was. One without state goes on where its own group was, or else where a group was that does not read the
    topic any more.

    Raises:
        UsageError: a sub-topology has the state of several that were at different offsets.
    """
    saved: dict[str, dict[str, Committed]] = {}  # by topic and isolation group
    for task in savepoint.tasks:
        for one in task.offsets:
            at = TopicPartition(one.topic, one.partition)
            saved.setdefault(one.topic, {}).setdefault(task.group, {})[at] = one.offset, one.metadata
    had = {old: task.group for task in savepoint.tasks for old in task.stores}
    read = {(part.group, source.topic.name) for part in topology.parts for source in part.sources}
    found: dict[str, Committed] = {}
    for part in topology.parts:
        own = found.setdefault(consumer_group(topology.app, part.group), {})
        were = dict.fromkeys(had[old] for one in part.stores if (old := stores.get(one.name)) in had)
        for topic in (source.topic.name for source in part.sources if not source.topic.internal):
            there = saved.get(topic, {})
            groups = [one for one in were if one in there]
            if len({tuple(sorted((at, entry[0]) for at, entry in there[one].items())) for one in groups}) > 1:
                raise UsageError(
                    f"sub-topology {part.name} would have state of isolation groups {' and '.join(groups)}, which were "
                    f"at different offsets of topic {topic}: leave its steps in the isolation groups that they were in"
                )
            if not groups:
                groups = [part.group] if part.group in there else [one for one in there if (one, topic) not in read]
            for group in groups:
                for at, entry in there[group].items():
                    if at not in own or entry[0] < own[at][0]:  # nothing is left out
                        own[at] = entry
    return found


def _beside(topology: Topology, savepoint: Savepoint) -> dict[TopicPartition, str]:
    """By the topics as this app calls them: they are named after it."""
    return {
        TopicPartition(topology.app + one.topic.removeprefix(savepoint.app), one.partition): one.metadata
        for task in savepoint.tasks
        for one in task.own
    }


def _check_inputs(
    admin: AdminClient, savepoint: Savepoint, there: Mapping[str, int], offsets: Mapping[str, Committed]
) -> Iterator[str]:
    wanted = {at: entry[0] for own in offsets.values() for at, entry in own.items()}
    names = list(dict.fromkeys(at.topic for at in wanted))
    now = admin.describe(names).result(TIMEOUT)
    for name in names:
        was = savepoint.topics[name]
        if name not in there:
            raise UsageError(f"topic {name}, which the savepoint has offsets of, does not exist, or may not be seen")
        if was.id is not None and now[name].id is not None and was.id != now[name].id:
            raise UsageError(
                f"topic {name} is not the one that the savepoint has offsets of: it was deleted and created again (its "
                f"id was {was.id}, now it is {now[name].id}), or this is another cluster"
            )
    if not wanted:
        return
    starts, _ = bounds(admin, list(wanted))
    for at, offset in wanted.items():
        if offset < starts[at]:
            yield f"{at}: {starts[at] - offset} records after the savepoint were deleted since; they are left out"


# ---- carried out


def carry_out(
    plan: Plan,
    topology: Topology,
    clients: Clients,
    admin: AdminClient,
    settings: Settings,
    storage: Storage,
    on_progress: Callable[[int], None] = lambda entries: None,
) -> int:
    """Does what `look` has found. Returns the number of entries that were written.

    Raises:
        SnapshotError: the savepoint is damaged. StorageError: it cannot be read.
        KafkaUnavailable, TopicError: Kafka does not answer, or refuses. Run it again.
    """
    ensure_topic(admin, topology.app, settings.replication_factor)
    with closing(Control(clients, admin, topology.app)) as control:
        what = f"savepoint {plan.savepoint.name} ({storage.url})"
        control.write(RestoreNote("kstream savepoint restore", what, time.time()))
        for group in plan.groups:
            admin.delete_group(group).result(TIMEOUT)
        before = admin.describe(list(plan.topics)).result(TIMEOUT)
        admin.delete_topics(plan.topics, TIMEOUT)
        prepare_topics(topology, admin, settings)
        after = admin.describe([name for name in plan.topics if name in admin.topics(TIMEOUT)]).result(TIMEOUT)
        if still := [name for name, one in after.items() if one.id is not None and one.id == before[name].id]:
            raise KafkaUnavailable(f"topics {', '.join(still)} are being deleted still: run it again")
        written = _write_entries(plan, topology, clients, storage, on_progress)
        keep_types(topology, clients, admin, plan.types, int(time.time() * 1000))
        _commit_offsets(plan, topology, admin)
        control.forget_restore()
    return written


def _write_entries(
    plan: Plan, topology: Topology, clients: Clients, storage: Storage, on_progress: Callable[[int], None]
) -> int:
    changelogs = {
        plan.stores[store.name]: topology.changelog(store)
        for part in topology.parts
        for store in part.stores
        if store.name in plan.stores
    }
    with closing(clients.producer(None)) as producer, TemporaryDirectory(prefix="kstream-") as scratch:
        writer = EntryWriter(producer, on_progress)
        found: Entries = entries_of(
            storage, plan.savepoint, frozenset(changelogs), _specs(plan, topology), Path(scratch)
        )  # fmt: skip
        for store, partition, entries in found:
            for key, value, headers in entries:
                writer.write(changelogs[store], partition, key, value, headers)
        writer.finish()
    return writer.written


class EntryWriter:
    """Writes entries to changelogs, outside any transaction: the app does not run."""

    def __init__(self, producer: ProducerClient, on_progress: Callable[[int], None]) -> None:
        self._producer, self._on_progress = producer, on_progress
        self.written = 0

    def write(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers | None) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, None, None, 0, headers)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.written += 1
        if self.written % 10_000 == 0:
            self._producer.poll(0.0)
            self._on_progress(self.written)

    def finish(self) -> None:
        """All of them are there when this returns. Raises ProducerLost where one is not."""
        self._producer.flush(FLUSH_SECONDS)
        self._on_progress(self.written)


def _specs(plan: Plan, topology: Topology) -> dict[str, StoreSpec]:
    specs = {store.name: store for part in topology.parts for store in part.stores}
    return {old: specs[new] for new, old in plan.stores.items()}


def _commit_offsets(plan: Plan, topology: Topology, admin: AdminClient) -> None:
    """Those of the savepoint; of the app's own topics, which are new, the start: state without offsets would be taken
    for lost offsets."""
    counts = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
    for isolation in topology.groups:
        group = consumer_group(topology.app, isolation)
        offsets = dict(plan.offsets.get(group, {}))
        parts = topology.of_group(isolation).parts
        own = {source.topic.name for part in parts for source in part.sources if source.topic.internal}
        own |= {delay.topic for part in parts for delay in part.delays}
        ids = admin.describe(list(own)).result(TIMEOUT)
        for topic in own:
            topic_id = ids[topic].id if topic in ids else None
            for number in range(counts[topic]):
                at = TopicPartition(topic, number)
                offsets[at] = 0, _metadata(plan.beside.get(at, ""), topic_id)
        if offsets:
            answer(lambda group=group, offsets=offsets: admin.set_committed(group, offsets), f"the offsets of {group}")  # type: ignore[misc]


def _metadata(said: str, topic_id: str | None) -> str:
    """What lay beside an offset (runtime/worker/offsets.py), of a topic with another id."""
    try:
        found = json.loads(said)
    except ValueError:
        found = {"v": 1}
    return json.dumps({**found, "id": topic_id} if topic_id is not None else found, separators=(",", ":"))
