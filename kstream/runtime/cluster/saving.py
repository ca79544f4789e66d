"""Making a savepoint: what the command does that asks for one (the rules are in savepoint.py).

It is the only one that knows all of it. Where it is killed, the instances go on when the time is over, and the
savepoint does not exist: its own file is written last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from importlib.metadata import version
from secrets import token_hex
from typing import Final

from kstream.errors import KStreamError, SavepointFailed, StorageError, UsageError
from kstream.runtime.cluster.control import Answer, Control, Request, TaskPart, Unread, ensure_topic
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import TIMEOUT
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.savepoint import Coordination, Stage
from kstream.runtime.cluster.stored_types import types_of
from kstream.state.savepoint import (
    FILE,
    SavedOffset,
    SavedStore,
    SavedTask,
    SavedTopic,
    SavedType,
    Savepoint,
    begin_attempt,
    check_name,
    create_savepoint,
    delete_attempt,
    left_by_attempts,
    read_savepoint,
    taken_apart,
)
from kstream.state.snapshots.manifest import stored_manifest
from kstream.state.snapshots.storage import Storage
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clients, DescribedTopic, TopicPartition

LISTEN_SECONDS: Final = 0.2


class Saving:
    """Makes one savepoint of an app that runs.

    Args:
        clients: that tell ends at once (`records.looking`).
        storage: where it goes: a place that every instance and this process can reach.
        name: what it is called there.
        timeout: seconds that the inputs are held at most.
        stop: whether the instances stop when it is there.
        replication: of the control topic, where it is made.
        on_stage: told of each step.
        before_stop: called when the savepoint is there, and the instances were not told to stop yet.
    """

    def __init__(
        self,
        topology: Topology,
        clients: Clients,
        admin: AdminClient,
        storage: Storage,
        name: str,
        *,
        timeout: float,
        stop: bool,
        replication: int = -1,
        on_stage: Callable[[str], None] = lambda text: None,
        before_stop: Callable[[], None] = lambda: None,
    ) -> None:
        check_name(name)
        self._topology, self._clients, self._admin, self._storage = topology, clients, admin, storage
        self._name, self._timeout, self._stop, self._replication = name, timeout, stop, replication
        self._on_stage, self._before_stop = on_stage, before_stop
        self._id = token_hex(6)
        self._writing = False
        self._counts = {topic: info.partitions for topic, info in admin.topics(TIMEOUT).items()}
        self._delays = {delay.topic: delay.seconds for part in topology.parts for delay in part.delays}
        self._internal = {
            *(source.topic.name for part in topology.parts for source in part.sources if source.topic.internal),
            *self._delays,
        }

    def make(self) -> Savepoint:
        """Raises:
        UsageError: there is one of this name, or the app does not run.
        SavepointFailed: there is none, and the app goes on as before: why.
        StorageError, KafkaUnavailable: the same, on account of the place or of Kafka.
        """
        self._check_place()
        self._check_runs()
        ensure_topic(self._admin, self._topology.app, self._replication)
        coordination = Coordination(self._id, {name: part.group for part, name, _ in self._tasks()}, self._internal)
        with closing(Control(self._clients, self._admin, self._topology.app)) as control:
            try:
                return self._go_through(coordination, control)
            except BaseException as error:
                if self._may_be_there():
                    more = "; instances that were not told to stop go on when the time is over" if self._stop else ""
                    self._on_stage(f"savepoint {self._name} is there{more}")
                    raise
                self._tell_abort(control, getattr(error, "why", str(error)) or type(error).__name__)
                raise

    def _check_place(self) -> list[str]:
        """What attempts of this app left that were broken off."""
        return left_by_attempts(self._storage, self._name, self._topology.app, but=self._id)

    def _take_place(self) -> None:
        """All workers hold for this attempt, so none stores files of an earlier one. It is said whose the folder is
        before others are looked for: of two who do so at the same time, one at least sees the other."""
        begin_attempt(self._storage, self._name, self._id, self._topology.app)
        self._storage.delete(self._check_place())

    def _may_be_there(self) -> bool:
        """Whether the savepoint's own file was written; also where nobody knows."""
        if not self._writing:
            return False
        try:
            return read_savepoint(self._storage, self._name).id == self._id
        except UsageError:
            return False
        except KStreamError:
            return True

    def _check_runs(self) -> None:
        groups = [consumer_group(self._topology.app, isolation) for isolation in self._topology.groups]
        for group in groups:
            if not answer(lambda group=group: self._admin.members(group), f"the members of group {group}"):  # type: ignore[misc]
                raise UsageError(
                    f"group {group} has no members: a savepoint is made of an app that runs, with all of its isolation "
                    "groups (what a stopped app has is in its changelogs: kstream state export)"
                )

    def _tasks(self) -> Iterable[tuple[SubTopology, str, int]]:
        for part in self._topology.parts:
            for partition in range(self._counts.get(part.topics[0], 0)):
                yield part, f"{part.name}/{partition}", partition

    def _request(self, phase: str, why: str = "") -> Request:
        return Request(self._id, self._name, phase, self._timeout, self._storage.url, why)  # type: ignore[arg-type]  # a literal

    def _tell_abort(self, control: Control, why: str) -> None:
        try:
            control.write(self._request("abort", why))
            delete_attempt(self._storage, self._name, self._id)
        except KStreamError as error:
            self._on_stage(f"the instances go on when the time is over, they could not be told: {error}")

    # ---- the steps

    def _go_through(self, coordination: Coordination, control: Control) -> Savepoint:
        deadline = time.monotonic() + self._timeout
        topics = self._admin.describe(self._outside).result(TIMEOUT)
        control.write(self._request("hold"))
        self._on_stage("the inputs are held, what is under way is finished")
        while True:
            for said in control.read(LISTEN_SECONDS):
                if isinstance(said, Unread) and said.worker is not None:
                    said = Answer(said.id, said.worker, "refused", why=said.why)
                if isinstance(said, Answer):
                    coordination.hear(said)
            if coordination.stage is Stage.ABORTED:
                raise SavepointFailed(self._name, coordination.why)
            if coordination.stage is Stage.HOLDING and coordination.quiet and not coordination.left_in(self._ends()):
                self._take_place()
                coordination.go(Stage.CAPTURING)
                control.write(self._request("capture"))
                self._on_stage("local state is copied")
            elif coordination.stage is Stage.CAPTURING and coordination.captured:
                self._check_moment(coordination)
                coordination.go(Stage.STORING)
                if not self._stop:
                    control.write(self._request("resume"))
                self._on_stage("the copies are stored" if self._stop else "the app goes on, the copies are stored")
            elif coordination.stage is Stage.STORING and coordination.stored:
                savepoint = self._savepoint(coordination.parts("stored"), topics)
                if self._stop and time.monotonic() > deadline:
                    coordination.abort(f"it took {self._timeout:g} s (--timeout), and the instances wait no longer")
                    raise SavepointFailed(self._name, coordination.why)
                self._write(savepoint)
                coordination.go(Stage.DONE)
                if self._stop:
                    self._before_stop()
                    control.write(self._request("stop"))
                    if time.monotonic() > deadline:
                        self._on_stage("the instances were told to stop late: they may have processed more meanwhile")
                return savepoint
            elif time.monotonic() > deadline:
                why = self._delayed(coordination) or coordination.waiting_for()
                coordination.abort(f"{why} after {self._timeout:g} s (--timeout)")
                raise SavepointFailed(self._name, coordination.why)

    def _delayed(self, coordination: Coordination) -> str | None:
        """What is said where records wait for their next attempt: a savepoint has none of them."""
        if coordination.stage is not Stage.HOLDING:
            return None
        left = dict.fromkeys(at.topic for at in coordination.left_in(self._ends()) if at.topic in self._delays)
        shown = ", ".join(f"{topic} (for up to {self._delays[topic]:g} s)" for topic in left)
        return f"records wait in delay topics, and a savepoint takes none of them along: {shown}" if left else None

    def _write(self, savepoint: Savepoint) -> None:
        self._writing = True
        if not create_savepoint(self._storage, savepoint):
            self._writing = False
            raise SavepointFailed(self._name, f"another one of this name was made in {self._storage.url} meanwhile")
        if (why := taken_apart(self._storage, savepoint)) is not None:
            self._storage.delete([f"{self._name}/{FILE}"])
            raise SavepointFailed(self._name, why)

    @property
    def _outside(self) -> list[str]:
        """The inputs that are not the app's own."""
        read = dict.fromkeys(source.topic.name for part in self._topology.parts for source in part.sources)
        return [topic for topic in read if topic not in self._internal]

    def _ends(self) -> dict[TopicPartition, int]:
        at = [TopicPartition(topic, number) for topic in self._internal for number in range(self._counts[topic])]
        return self._admin.end_offsets(at).result(TIMEOUT) if at else {}

    def _check_moment(self, coordination: Coordination) -> None:
        committed = {}
        for isolation in self._topology.groups:
            group = consumer_group(self._topology.app, isolation)
            at = [TopicPartition(one.topic, one.partition) for own, one in coordination.offsets() if own == isolation]
            committed[isolation] = answer(
                lambda group=group, at=at: self._admin.committed(group, at),  # type: ignore[misc]
                f"the committed offsets of group {group}",
            )
        if (moved := coordination.moved(committed, self._ends())) is not None:
            coordination.abort(f"not all of it is of one moment: {moved}")
            raise SavepointFailed(self._name, coordination.why)

    def _savepoint(self, parts: Mapping[str, TaskPart], topics: Mapping[str, DescribedTopic]) -> Savepoint:
        tasks = [self._task(part, name, partition, parts[name]) for part, name, partition in self._tasks()]
        stores = {
            store.name: SavedStore(str(store.key), str(store.value), store.scope, self._counts[part.topics[0]])
            for part in self._topology.parts
            for store in part.stores
        }
        saved = {name: SavedTopic(topics[name].id, self._counts[name]) for name in self._outside}
        return Savepoint(
            id=self._id, name=self._name, app=self._topology.app, taken=time.time(), program=version("kstream"),
            topics=saved, stores=stores, tasks=tasks, types=self._types(),
        )  # fmt: skip

    def _types(self) -> list[SavedType]:
        had = types_of(self._topology, self._clients, self._admin)
        return [SavedType(one.store, one.key, one.value, one.layout) for one in had]

    def _task(self, part: SubTopology, name: str, partition: int, told: TaskPart) -> SavedTask:
        folder, state = "", None
        if told.stored is not None:
            folder = told.stored.removeprefix(f"{self._name}/").rsplit("/", 2)[0]
            try:
                state = stored_manifest(self._storage, told.stored)
            except StorageError as error:
                raise SavepointFailed(
                    self._name,
                    f"what a worker stored cannot be read here ({error}): its place must be one that all instances and "
                    "this command share",
                ) from error
        saved = [SavedOffset(one.topic, one.partition, one.committed, one.metadata) for one in told.offsets]
        offsets = [one for one in saved if one.topic not in self._internal]
        own = [one for one in saved if one.topic in self._internal]
        stores = [store.name for store in part.stores]
        return SavedTask(name, part.group, partition, offsets, own, folder, state, stores)
