"""A savepoint of an app that is stopped: what its changelogs and its committed offsets say.

They are of one moment, as each transaction has both. What lies in the app's own topics unread is no part of a
savepoint, so it must be read first: by the app.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Final

from kstream.config import Settings
from kstream.errors import TopicError, UsageError
from kstream.runtime.cluster.covered import lost_changelogs, lost_inputs, newest
from kstream.runtime.cluster.filling import gather
from kstream.runtime.cluster.metadata import (
    SET_OR_RESET,
    changelog_lost,
    decode,
    encode,
    made_anew,
    state_without_offsets,
)
from kstream.runtime.cluster.naming import consumer_group, directory_name
from kstream.runtime.cluster.records import TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.replacing import check_stopped
from kstream.runtime.cluster.stored_types import types_of
from kstream.specs.store import StoreSpec
from kstream.state.about import About
from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.savepoint import (
    SavedOffset,
    SavedStore,
    SavedTask,
    SavedTopic,
    SavedType,
    Savepoint,
    begin_attempt,
    check_name,
    create_savepoint,
    left_by_attempts,
    taken_apart,
)
from kstream.state.snapshots.manifest import Draft, Manifest, StoredStore
from kstream.state.snapshots.storage import Storage
from kstream.state.snapshots.transfer import write_snapshot
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clients, Clock, TopicPartition

PATIENCE: Final = 3600.0

Offsets = Mapping[TopicPartition, tuple[int, str] | None]


class Gathering:
    """Makes one savepoint of a stopped app.

    Args:
        clients: that tell ends at once (`records.looking`).
        storage: where it goes, under this name.
        settings: of the app: whether it would go on without offsets that are lost.
        begins: the user says where inputs begin that have no committed offsets.
        on_entries: told how many entries were gathered so far.
    """

    def __init__(
        self,
        topology: Topology,
        clients: Clients,
        admin: AdminClient,
        storage: Storage,
        name: str,
        clock: Clock,
        *,
        settings: Settings,
        begins: bool = False,
        on_entries: Callable[[int], None] = lambda entries: None,
    ) -> None:
        check_name(name)
        self._topology, self._clients, self._admin, self._clock = topology, clients, admin, clock
        self._storage, self._name, self._on_entries = storage, name, on_entries
        self._stops, self._begins = settings.lost_offsets == "stop", begins
        self._guards = self._stops and settings.processing_guarantee == "exactly_once"
        self._id, self._entries = token_hex(6), 0
        self._counts = {topic: info.partitions for topic, info in admin.topics(TIMEOUT).items()}
        read = [name for part in topology.parts for name in part.topics if name in self._counts]
        described = admin.describe(list(dict.fromkeys([*read, *self._changelogs()]))).result(TIMEOUT)
        self._ids = {name: one.id for name, one in described.items()}

    def make(self) -> Savepoint:
        """Raises:
        UsageError: the app runs, records wait in its own topics, offsets are gone or of another topic, which would
            stop the app's tasks (`lost_offsets`), or there is a savepoint of this name.
        StorageError, KafkaUnavailable: on account of the place or of Kafka.
        """
        groups = {isolation: consumer_group(self._topology.app, isolation) for isolation in self._topology.groups}
        check_stopped(self._topology, self._admin, list(groups.values()))
        left = left_by_attempts(self._storage, self._name, self._topology.app, but=self._id)
        begin_attempt(self._storage, self._name, self._id, self._topology.app)
        self._storage.delete(left)
        committed = {part.name: self._committed(part) for part in self._topology.parts}
        offsets = {name: self._trusted(found) for name, found in committed.items()}
        for part in self._topology.parts:
            self._check_changelogs(part, committed[part.name])
            self._check_empty(part, offsets[part.name])
        tasks = [self._task(part, number, offsets[part.name]) for part, number in self._tasks()]
        check_stopped(self._topology, self._admin, list(groups.values()))
        if any(self._committed(part) != committed[part.name] for part in self._topology.parts):
            raise UsageError("the app ran meanwhile: stop all of its instances, and run this again")
        made = Savepoint(
            id=self._id, name=self._name, app=self._topology.app, taken=time.time(), program=version("kstream"),
            topics={name: SavedTopic(self._ids.get(name), self._counts[name]) for name in self._inputs()},
            stores=self._stores(), tasks=tasks, types=self._types(),
        )  # fmt: skip
        if not create_savepoint(self._storage, made) or taken_apart(self._storage, made) is not None:
            raise UsageError(f"another savepoint {self._name} is made in {self._storage.url} at the same time")
        return made

    def _inputs(self) -> list[str]:
        """Those that are not the app's own."""
        read = (source.topic for part in self._topology.parts for source in part.sources)
        return list(dict.fromkeys(topic.name for topic in read if not topic.internal and topic.name in self._counts))

    def _changelogs(self) -> list[str]:
        names = (self._topology.changelog(store) for part in self._topology.parts for store in part.stores)
        return [name for name in names if name in self._counts]

    def _stores(self) -> dict[str, SavedStore]:
        """Those that there is a changelog of."""
        return {
            store.name: SavedStore(str(store.key), str(store.value), store.scope, self._counts[changelog])
            for part in self._topology.parts
            for store in part.stores
            if (changelog := self._topology.changelog(store)) in self._counts
        }

    def _types(self) -> list[SavedType]:
        had = types_of(self._topology, self._clients, self._admin)
        return [SavedType(one.store, one.key, one.value, one.layout) for one in had]

    def _tasks(self) -> list[tuple[SubTopology, int]]:
        found = []
        for part in self._topology.parts:
            logs = [self._topology.changelog(store) for store in part.stores]
            count = max((self._counts[name] for name in (*part.topics, *logs) if name in self._counts), default=0)
            found += [(part, number) for number in range(count)]
        return found

    def _committed(self, part: SubTopology) -> Offsets:
        group = consumer_group(self._topology.app, part.group)
        at = [TopicPartition(name, number) for name in part.topics for number in range(self._counts.get(name, 0))]
        return answer(lambda: self._admin.committed(group, at), f"the committed offsets of group {group}")

    def _trusted(self, offsets: Offsets) -> Offsets:
        """Without those of topics that were deleted and created again since, where the app goes on without them, too.
        Of one of which nothing was read the new one is read from its start, as the app does.

        Raises TopicError where it would not go on.
        """
        found = dict(offsets)
        for at, entry in offsets.items():
            if entry is None or (now := self._ids.get(at.topic)) is None:
                continue
            said = decode(entry[1], at)
            if said.topic_id is None or said.topic_id == now:
                continue
            if entry[0] and self._stops:
                raise made_anew(at, said.topic_id, now)
            found[at] = None if entry[0] else (0, encode(said._replace(topic_id=now)))
        return found

    def _check_offsets(
        self, part: SubTopology, number: int, backend: RocksBackend, stores: Sequence[StoreSpec], offsets: Offsets
    ) -> None:
        """Raises TopicError where the app's task would stop, because it has state without offsets: it must not get
        offsets by being moved."""
        at = [each for each in offsets if each.partition == number]
        outside = any(not source.topic.internal for source in part.sources)
        own = {each: offsets[each] for each in at}
        lost = lost_inputs(own, newest(own))
        if (own and not lost) or not self._guards or (self._begins and outside):
            return
        if kept := [one.name for one in stores if next(iter(backend.scan(one.name)), None) is not None]:
            group = consumer_group(self._topology.app, part.group)
            problem = state_without_offsets(f"{part.name}/{number}", kept, group, lost)
            more = "; of a topic that the app did not read before, --inputs says where it begins" if outside else ""
            raise TopicError(f"{problem}: {SET_OR_RESET}{more}")

    def _check_changelogs(self, part: SubTopology, offsets: Offsets) -> None:
        """Raises TopicError where a changelog was deleted since the app committed to it: the savepoint would lack what
        it had."""
        if not self._stops:
            return
        gone = [name for store in part.stores if (name := self._topology.changelog(store)) not in self._counts]
        ids = {name: one for name, one in self._ids.items() if one is not None} | dict.fromkeys(gone, "")
        for number in sorted({at.partition for at in offsets}):
            said = newest({at: entry for at, entry in offsets.items() if at.partition == number})
            for topic in lost_changelogs(said, ids):
                raise changelog_lost(topic, f"{part.name}/{number}", again=topic not in gone)

    def _check_empty(self, part: SubTopology, offsets: Offsets) -> None:
        """Raises UsageError where the app's own topics have records that it did not read."""
        own = {source.topic.name for source in part.sources if source.topic.internal}
        own |= {delay.topic for delay in part.delays}
        at = [each for each in offsets if each.topic in own]
        if not at:
            return
        firsts, ends = bounds(self._admin, at)
        starts = {each: max(firsts[each], entry[0] if (entry := offsets[each]) is not None else 0) for each in at}
        for topic in dict.fromkeys(each.topic for each in at):
            mine = {each: starts[each] for each in at if each.topic == topic}
            with closing(Reading(self._clients, self._admin, mine, ends, waits=True)) as reading:
                waiting = sum(1 for _ in to_end(reading))
            if waiting:
                raise UsageError(
                    f"topic {topic} has {waiting:,} record{'' if waiting == 1 else 's'} that the app has not processed "
                    "yet: start the app, and run this again while it runs: then it finishes them, and is stopped"
                )

    def _task(self, part: SubTopology, number: int, offsets: Offsets) -> SavedTask:
        own = {source.topic.name for source in part.sources if not source.topic.internal}
        saved = [
            SavedOffset(at.topic, number, entry[0], entry[1])
            for at, entry in offsets.items()
            if at.partition == number and entry is not None
        ]
        # where nothing was committed of one of the app's own topics, it is there all the same
        read = {one.topic for one in saved}
        saved += [
            SavedOffset(name, number, 0)
            for name in part.topics
            if name not in own and name not in read and number < self._counts.get(name, 0)
        ]
        stores = [store for store in part.stores if number < self._counts.get(self._topology.changelog(store), 0)]
        name = f"{part.name}/{number}"
        folder = f"{self._id}/{directory_name(part.name)}/{number}" if stores else ""
        state = self._state(part, number, stores, folder, offsets) if stores else None
        outside, inner = [one for one in saved if one.topic in own], [one for one in saved if one.topic not in own]
        return SavedTask(name, part.group, number, outside, inner, folder, state, [one.name for one in stores])

    def _state(
        self, part: SubTopology, number: int, stores: Sequence[StoreSpec], folder: str, offsets: Offsets
    ) -> Manifest:
        with TemporaryDirectory(prefix="kstream-") as scratch:
            backend = RocksBackend(
                Path(scratch) / "entries", [store.name for store in stores], RocksMemory(64 << 20, 16 << 20)
            )  # fmt: skip
            try:
                marks = {store.name: self._gather(backend, store, number) for store in stores}
                self._check_offsets(part, number, backend, stores, offsets)
                backend.write({}, marks)
                backend.flush()
                backend.checkpoint(Path(scratch) / "copy")
            finally:
                backend.close()
            draft = Draft(
                app=self._topology.app, part=part.name, partition=number, number=1, taken=self._clock.time(),
                backend=backend.kind, stores={name: StoredStore.of(mark) for name, mark in marks.items()},
            )  # fmt: skip
            place = f"{self._name}/{folder}"
            return write_snapshot(
                self._storage, place, Path(scratch) / "copy", draft, self._clock, patience=PATIENCE
            )  # fmt: skip

    def _gather(self, backend: RocksBackend, spec: StoreSpec, number: int) -> Mark:
        at = TopicPartition(self._topology.changelog(spec), number)
        end = gather(backend, spec, self._clients, self._admin, at, waits=True, on_entries=self._count)
        existing = "" if spec.ttl is None else spec.ttl.existing
        about = About(changelog=self._ids.get(at.topic), form=spec.form, existing=existing)
        return Mark(end, self._clock.time(), about.packed())

    def _count(self, entries: int) -> None:
        self._entries += entries
        self._on_entries(self._entries)
