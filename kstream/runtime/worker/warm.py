"""Warm copies: the state of tasks that other instances run, followed from their changelogs.

Whoever takes such a task over finds its state on this host and replays only the tail (Kafka Streams' standby replicas).
The supervisor says which tasks a worker follows (`runtime/instance/warming.py`). A copy lies in the worker's own
directory, below `@warm`; it is opened as a task's local state is, by renaming (`opening.py`), and is given up first: to
this worker at once, to another one of this host when that leaves a note in it. It never answers for a task.

A copy that has nothing, or much less than there is, begins with the task's newest snapshot, where there are such.

What goes wrong with a copy costs the copy, never the worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from kstream.errors import KStreamError, StateDirectoryError, TopicError
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.worker.inputs import id_in
from kstream.runtime.worker.opening import Opening
from kstream.runtime.worker.replay import Replay, damage_of, fit
from kstream.runtime.worker.restraint import Restraint
from kstream.runtime.worker.snapshots.choosing import Bound, Choice
from kstream.runtime.worker.snapshots.fetching import Fetch, Fetches
from kstream.state.backend import Backend
from kstream.state.changelog import Changelog
from kstream.state.expiry import families_of
from kstream.state.replayed import reset
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clock, ConsumerClient, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.1
"""How often copies are looked at that others may want."""

IDLE_SECONDS: Final = 0.1
BUSY_SECONDS: Final = 0.001
"""How long the loop may wait between two looks, while nothing comes and while something does."""

RETRY_SECONDS: Final = 30.0
"""How long copies that met an error are left alone."""

ENDLESS: Final = 1 << 62


@dataclass(slots=True, eq=False)
class Copy:
    """A warm copy of a task's state. Implements `fetching.Fetching`.

    Attributes:
        fetch: of the snapshot that it begins with; it is tried once.
        behind: changelog records that it lacks while it waits for that; 0 once it is followed.
        followed: its changelogs are.
    """

    name: str
    part: SubTopology
    partition: int
    backend: Backend
    fetch: Fetch | None = None
    behind: int = 0
    followed: bool = False

    @property
    def fetching(self) -> bool:
        return self.fetch is not None and not self.fetch.over


@dataclass(slots=True)
class _Question:
    """What is asked before copies can be followed."""

    names: list[str]
    topics: Future[dict[str, DescribedTopic]]
    starts: Future[dict[TopicPartition, int]]
    ends: Future[dict[TopicPartition, int]]
    asked: dict[str, dict[TopicPartition, str]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.topics.done() and self.starts.done() and self.ends.done()


class Warm:
    """The warm copies of a worker. Never waits.

    Args:
        reader: makes a consumer outside any group; it is made when there is something to follow.
        delete_retention: seconds after which local state may have missed tombstones.
    """

    def __init__(
        self,
        topology: Topology,
        opening: Opening,
        reader: Callable[[], ConsumerClient],
        admin: AdminClient,
        clock: Clock,
        restraint: Restraint,
        fetches: Fetches | None = None,
        *,
        delete_retention: float,
    ) -> None:
        self._fetches = fetches
        self._topology, self._opening, self._admin, self._clock = topology, opening, admin, clock
        self._delete_retention = delete_retention
        self.restraint = restraint
        self.replay = Replay(reader, clock, endless=True)
        self.copies: dict[str, Copy] = {}
        self._wanted: frozenset[str] = frozenset()
        self._given: set[str] = set()  # to others of this host, since it was said last what to follow
        self._question: _Question | None = None
        self._ends: dict[TopicPartition, int] = {}
        self._quiet = True  # the last look brought nothing
        self._pauses: dict[str, float] = {}  # of copies that met an error: until when
        self._singly: set[str] = (
            set()
        )  # asked about one at a time: a question about several failed, and one is at fault
        self._looked = self._not_before = float("-inf")
        opening.release = self.release

    def __len__(self) -> int:
        return len(self.copies)

    @property
    def patience(self) -> float:
        """Seconds after which there may be something to do."""
        return IDLE_SECONDS if self._quiet or not self.replay else max(BUSY_SECONDS, self.restraint.seconds_left())

    @property
    def active(self) -> bool:
        """Whether there is anything to do in `step`."""
        return bool(self._wanted or self.copies)

    def behind(self) -> int:
        """Changelog records that its copies have not applied yet, as far as the ends were heard of."""
        waiting = sum(copy.behind for copy in self.copies.values() if not copy.followed)
        return self.replay.behind(self._ends) + waiting

    @property
    def fetches_running(self) -> list[Fetch]:
        """Of snapshots."""
        return [copy.fetch for copy in self.copies.values() if copy.fetch is not None and copy.fetching]

    def follow(self, names: Collection[str]) -> None:
        """These tasks are to be followed, by name; what is not among them is given up, and stays on disk."""
        if (wanted := frozenset(names)) == self._wanted:
            return
        before, self._wanted = self._wanted, wanted
        for name in self.copies.keys() - wanted:
            self.release(name)
        self._given &= before & wanted

    def release(self, name: str) -> None:
        """Closes a copy: its task is opened here, or it is not to be followed any more."""
        self._given.add(name)
        copy = self.copies.pop(name, None)
        if copy is None:
            return
        self.replay.drop(copy)
        if copy.fetch is not None:
            copy.fetch.abandon()
        try:
            copy.backend.close()
        except KStreamError as error:  # what was not flushed is replayed
            log.warning("the warm copy of task %s was not closed properly: %s", name, error)

    def step(self, max_records: int, *, beside: bool) -> None:
        """Begins with copies that are to be followed, and applies what came for others.

        Args:
            max_records: 0 applies nothing now: tasks are restored, and come first.
            beside: tasks of this worker have records: copies take no more than their share of time.
        """
        try:
            self._give_up()
            self._fetch()
            self._begin()
            if max_records and self.replay and not self.restraint.seconds_left():
                began, size, records = self._clock.monotonic(), self.replay.bytes, self.replay.records
                most = self.restraint.at_most(max_records, records, size)
                for copy in self.replay.step(most, 0.0):  # a position was no longer in its changelog
                    self._drop(copy.name)
                self._quiet = self.replay.records == records
                self.restraint.spent(self._clock.monotonic() - began, self.replay.bytes - size, beside=beside)
        except StateDamaged as error:
            log.warning("the warm copy of task %s is made anew: %s", error.task, error.error)
            self._drop(error.task, wipe=True)
        except TaskFailed as error:
            self._lose(error.task, error.error)
        except KStreamError as error:
            self._trouble(error)
            for name in list(self.copies):
                self._drop(name)

    def close(self) -> None:
        self._wanted = frozenset()
        for name in list(self.copies):
            self.release(name)
        self.replay.close()

    def _trouble(self, error: KStreamError) -> None:
        self._not_before = self._clock.monotonic() + RETRY_SECONDS
        log.warning("warm copies are not kept up to date for %.0f s: %s", RETRY_SECONDS, error)

    def _lose(self, name: str, error: KStreamError) -> None:
        """One copy met an error, and is left alone for a while."""
        self._drop(name)
        self._pauses[name] = self._clock.monotonic() + RETRY_SECONDS
        log.warning("the warm copy of task %s is not kept up to date for %.0f s: %s", name, RETRY_SECONDS, error)

    def _drop(self, name: str, *, wipe: bool = False) -> None:
        copy = self.copies.get(name)
        self.release(name)
        self._given.discard(name)
        if wipe and copy is not None:
            self._opening.wipe_warm(copy.part, copy.partition)

    def _give_up(self) -> None:
        """Copies that another worker of this host wants: it has got the task."""
        now = self._clock.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for name, copy in list(self.copies.items()):
            if self._opening.warm_is_wanted(copy.part, copy.partition):
                log.info("the warm copy of task %s goes to another worker of this host, which runs the task now", name)
                self.release(name)

    # ---- beginning

    def _fetch(self) -> None:
        """Goes on with snapshots that copies begin with."""
        for copy in list(self.copies.values()):
            if copy.fetch is None or not copy.fetching:
                continue
            with damage_of(copy):
                copy.fetch.step()
            if copy.fetch.stands:
                log.warning(
                    "the warm copy of task %s: the storage of its snapshots does not answer; it begins without",
                    copy.name,
                )  # fmt: skip
                copy.fetch.abandon()
            elif copy.fetch.error is not None:
                raise TaskFailed(copy.name, copy.fetch.error)

    def _begin(self) -> None:
        if self._question is None:
            if missing := self._missing():
                self._question = self._ask(missing)
        elif self._question.done:
            question, self._question = self._question, None
            try:
                topics, starts, ends = question.topics.result(), question.starts.result(), question.ends.result()
            except KStreamError as error:  # those that are followed stay
                self._not_answered(question.names, error)
                return
            self._singly.difference_update(question.names)
            self._ends.update(ends)
            try:
                for name in question.names:
                    if name in self._wanted and name not in self._given:
                        self._try_to_follow(name, question.asked[name], topics, starts, ends)
            finally:  # of one that fails the others know nothing
                if self.replay:
                    self.replay.assign()

    def _missing(self) -> list[str]:
        """Those that are asked about now."""
        now = self._clock.monotonic()
        if now < self._not_before:
            return []
        for name in [name for name, until in self._pauses.items() if now >= until]:
            del self._pauses[name]
        missing = [one for one in self._wanted if one not in self._given | self._pauses.keys() and self._begins(one)]
        return [name for name in missing if name not in self._singly] or missing[:1]

    def _not_answered(self, names: list[str], error: KStreamError) -> None:
        if len(names) == 1:
            self._lose(names[0], error)
        else:
            self._trouble(error)
            self._singly.update(names)

    def _try_to_follow(self, name: str, *bounds: Any) -> None:
        """Raises StateDamaged. Any other error costs this copy, and none of those that are begun with it."""
        try:
            self._follow(name, *bounds)
        except TaskFailed as error:
            self._lose(name, error.error)
        except KStreamError as error:
            self._lose(name, error)

    def _begins(self, name: str) -> bool:
        """Whether a copy waits for the bounds of its changelogs: it is not open yet, or its snapshot is here."""
        copy = self.copies.get(name)
        return copy is None or not (copy.followed or copy.fetching)

    def _ask(self, names: list[str]) -> _Question | None:
        asked = {name: self._changelogs_of(name) for name in names}
        partitions = [at for one in asked.values() for at in one]
        if not partitions:
            return None
        topics = list(dict.fromkeys(at.topic for at in partitions))
        return _Question(
            names,
            self._admin.describe(topics),
            self._admin.start_offsets(partitions),
            self._admin.end_offsets(partitions),
            asked,
        )

    def _changelogs_of(self, name: str) -> dict[TopicPartition, str]:
        part, partition = self._place_of(name)
        return {TopicPartition(self._topology.changelog(store), partition): store.name for store in part.stores}

    def _place_of(self, name: str) -> tuple[SubTopology, int]:
        of, _, partition = name.rpartition("/")
        return next(part for part in self._topology.parts if part.name == of), int(partition)

    def _follow(
        self,
        name: str,
        changelogs: dict[TopicPartition, str],
        topics: dict[str, DescribedTopic],
        starts: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
    ) -> None:
        copy = self.copies.get(name) or self._open(name)
        if copy is None or copy.fetching:
            return
        if any(at.topic not in topics for at in changelogs):  # and so not to be told from one that was made anew
            raise TopicError(f"the brokers do not describe one of {', '.join(at.topic for at in changelogs)}")
        specs = {spec.name: spec for spec in copy.part.stores}
        bounds = []
        for at, store in changelogs.items():
            changelog = Changelog(at.topic, copy.partition, specs[store])
            changelog.is_of(id_in(topics, at.topic))
            bounds.append(Bound(store, changelog, starts[at], ends[at]))
        with damage_of(copy):
            if not self._wants_snapshot(copy, bounds):
                self._begin_tails(copy, bounds)

    def _open(self, name: str) -> Copy | None:
        part, partition = self._place_of(name)
        families = [family for spec in part.stores for family in families_of(spec)]
        try:
            backend = self._opening.open_warm(part, partition, families)
        except OSError as error:
            line = f"the warm copy of task {name} cannot be opened: {error}"
            raise TaskFailed(name, StateDirectoryError(line)) from error
        if "rocksdb" not in backend.kind:  # nothing of it would be there when somebody takes the task over
            backend.close()
            self._given.add(name)
            return None
        copy = self.copies[name] = Copy(name, part, partition, backend)
        return copy

    def _wants_snapshot(self, copy: Copy, bounds: list[Bound]) -> bool:
        """Whether it begins with a snapshot, which is being fetched then."""
        if self._fetches is None or copy.fetch is not None or not copy.backend.snapshotted:
            return False
        choice = Choice(bounds, copy.backend.mark, self._clock.time(), self._delete_retention)
        if not choice.wants_snapshot:
            return False
        copy.behind = choice.tail
        copy.fetch = self._fetches.begin(copy, choice.fits)
        return True

    def _begin_tails(self, copy: Copy, bounds: list[Bound]) -> None:
        for store, changelog, start, end in bounds:
            now = self._clock.time()
            mark, _ = fit(copy.backend.mark, changelog, start, end, now, self._delete_retention)
            if mark is None:
                reset(copy.backend, changelog.spec)
            self.replay.add(copy, changelog, store, start if mark is None else mark.offset, ENDLESS)
        copy.followed = True
        log.info("keeps a warm copy of task %s, which another instance runs", copy.name)
