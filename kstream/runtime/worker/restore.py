"""Bringing tasks to the state of their committed offsets, in the order that makes it exact (docs/exactly-once.md).

For each task: (b) the stable committed offsets of its inputs, (c) the ends of its changelogs, read uncommitted,
(d) the tail of each changelog, from what the local store has to at or past that end, read committed; (e) only then
is it fed. (a), a fresh `init_transactions`, has happened before: when the group was joined, and after a doubtful
commit.

(b) before (c): once the offsets are stable, the transaction that wrote them has ended, so everything that belongs to
them lies before the end that is asked for next. Read committed stops at a pending transaction of a previous owner, so
(d) waits for its end.

(d) is done by `replay`. Nothing here blocks: futures are looked at, the reader is polled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from kstream.errors import AbortRequired, KStreamError, TopicError
from kstream.observe.throttle import Throttle
from kstream.runtime.cluster.covered import changelogs_of, is_new, newest, number_of
from kstream.runtime.cluster.metadata import Said
from kstream.runtime.task.states import TaskState, move
from kstream.runtime.task.task import Task
from kstream.runtime.worker.described import Later, Missing, are_others, ids_in, lacking, undescribed
from kstream.runtime.worker.durations import Durations
from kstream.runtime.worker.inputs import Answer, Inputs
from kstream.runtime.worker.offsets import CommittedOffsets
from kstream.runtime.worker.opening import Opening
from kstream.runtime.worker.question import Behind, Question
from kstream.runtime.worker.replay import Replay, damage_of, fit
from kstream.runtime.worker.restraint import Restraint
from kstream.runtime.worker.snapshots.choosing import Bound, Choice
from kstream.runtime.worker.snapshots.fetching import Fetch, Fetches
from kstream.runtime.worker.states import RESTORE_MOVES, RestoreStage
from kstream.state.changelog import Changelog
from kstream.state.replayed import reset
from kstream.types import AdminClient, Clock, ConsumerClient, TopicPartition

log = logging.getLogger(__name__)
again = logging.getLogger(f"{__name__}.again")
again.addFilter(Throttle())  # each second, for each task: one line in ten seconds, with the count of the others

RETRY_SECONDS = 0.02
"""How long after 'a transaction is pending' the question is asked again: the markers of a commit made just before a
rebalance take about as long."""

FAILED_SECONDS = 1.0
"""The same after a failed request."""

LAG_SECONDS = 0.1
"""The same where a topic is not described yet."""

MUCH: Final = 100_000
"""Changelog records from which a replay is a bulk load."""


@dataclass(slots=True)
class _Restoring:
    task: Task
    full: bool
    began: float
    question: Question
    stage: RestoreStage = RestoreStage.OFFSETS
    not_before: float = 0.0
    topics: Later | None = None
    ids: dict[str, str] = field(default_factory=dict)  # of its inputs and changelogs
    topic_ids: dict[TopicPartition, str] = field(default_factory=dict)
    changelog_ids: dict[str, str] = field(default_factory=dict)
    changelog_note: str = ""
    said: Said = field(default_factory=Said)
    anew: set[TopicPartition] = field(default_factory=set)
    ends: Future[dict[TopicPartition, int]] | None = None
    starts: Future[dict[TopicPartition, int]] | None = None
    missing: Missing = field(default_factory=Missing)
    lost: bool = False  # a changelog, or state's offsets
    committed: dict[TopicPartition, int | None] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    changelogs: dict[TopicPartition, tuple[str, Changelog]] = field(default_factory=dict)
    fetch: Fetch | None = None  # of a snapshot; it is tried once

    def go(self, stage: RestoreStage) -> None:
        move(f"the restore of task {self.task.name}", self.stage, stage, RESTORE_MOVES)
        self.stage = stage


class Restorer:
    """Restores any number of tasks at once, beside those that run."""

    def __init__(
        self, group: str, admin: AdminClient, reader: Callable[[], ConsumerClient],
        changelogs: Callable[[Task, str], Changelog], clock: Clock, inputs: Inputs, opening: Opening,
        offsets: CommittedOffsets, restraint: Restraint, fetches: Fetches | None = None, *, delete_retention: float,
    ) -> None:  # fmt: skip
        self.restraint, self._fetches = restraint, fetches
        self._admin, self._behind, self.changelog = admin, Behind(admin, group, offsets.downstream), changelogs
        self._clock, self._delete_retention = clock, delete_retention
        self._inputs, self._opening, self._offsets = inputs, opening, offsets
        self._restoring: dict[str, _Restoring] = {}
        self._beside = False  # as it was said last
        self.replay = Replay(reader, clock)
        self.durations = Durations(log)

    def __len__(self) -> int:
        return len(self._restoring)

    def stages(self) -> dict[str, str]:
        """What each restore waits for, by task."""
        return {
            name: one.fetch.said if one.stage is RestoreStage.FETCH and one.fetch else one.stage.value
            for name, one in self._restoring.items()
        }

    @property
    def fetches_running(self) -> list[Fetch]:
        """Of snapshots."""
        return [one.fetch for one in self._restoring.values() if one.stage is RestoreStage.FETCH and one.fetch]

    def add(self, task: Task, *, full: bool) -> None:
        """Begins with a task in state RESTORING.

        Args:
            full: replay its changelogs in any case. Otherwise a task whose own last commit is still that of the group,
                by its number and offsets, goes on as it is: nobody else has had its partitions meanwhile.
        """
        self.drop(task)
        for store in task.stores:
            self.changelog(task, store).moved()  # others may have written to it
        self._inputs.seen(task.inputs)
        if full:
            task.rewind()
        question = Question(self._admin, self._behind, task)
        self._restoring[task.name] = _Restoring(task, full, self._clock.monotonic(), question)

    def drop(self, task: Task) -> None:
        """The task left or failed: forget it. What was replayed stays, with its mark."""
        left = self._restoring.pop(task.name, None)
        if left is not None and left.fetch is not None:
            left.fetch.abandon()
        self._opening.forget(task)
        self.replay.drop(task)

    def step(self, max_records: int, timeout: float, *, beside: bool) -> None:
        """Moves every restore on as far as it goes without waiting. Those that are done wait for `finish`.

        Args:
            timeout: how long the reader may wait for records, in seconds.
            beside: other tasks have records: the replay takes no more than its share of time.

        Raises:
            StateDamaged: the local state of a task cannot be used.
            TaskFailed: the committed offsets of a task belong to topics that are gone, or are lost, or a changelog is;
                its inputs have other partitions than its state; a topic or partition of it is missing; or one has no
                committed offset and `auto_offset_reset` is "error".
        """
        self._beside = beside
        for one in self._restoring.values():
            if one.stage is RestoreStage.OFFSETS:
                self._ask_offsets(one)
            if one.stage is RestoreStage.FETCH:
                with damage_of(one.task):
                    self._look_at_fetch(one)
            if one.stage is RestoreStage.ENDS and not (self._fetches and self._fetches.holds(one.task)):
                with damage_of(one.task):
                    if self._open(one):
                        self._ask_ends(one)
        if self.replay and not self.restraint.seconds_left():
            began, size = self._clock.monotonic(), self.replay.bytes
            for task in self.replay.step(self.restraint.at_most(max_records, self.replay.records, size), timeout):
                one = self._restoring[task.name]
                one.go(RestoreStage.ENDS)
                one.not_before = self._clock.monotonic() + RETRY_SECONDS
            self.restraint.spent(self._clock.monotonic() - began, self.replay.bytes - size, beside=beside)
        for one in self._restoring.values():
            if one.stage is RestoreStage.REPLAY and not self.replay.of(one.task):
                one.go(RestoreStage.DONE)

    def finish(self) -> Iterator[Task]:
        """Each task that is done, running. One at a time: what fails one of them takes nothing from those before.

        Raises:
            StateDamaged: the state of a task cannot be read.
            TaskFailed: a task has state, and no committed offset of an input that it was committed with.
        """
        for one in [one for one in self._restoring.values() if one.stage is RestoreStage.DONE]:
            self._finish(one)
            yield one.task

    def close(self) -> None:
        for fetch in self.fetches_running:
            fetch.abandon()
        self._restoring.clear()
        self.replay.close()

    # ---- (b) stable committed offsets

    def _ask_offsets(self, one: _Restoring) -> None:
        if not one.question.asked:
            if self._clock.monotonic() < one.not_before:
                return
            one.question.ask()
        if not one.question.done():
            return
        if one.topics is None:
            one.topics = Later(self._inputs)
        if not one.topics.done():
            return
        described, one.topics = one.topics, None
        try:
            found = one.question.result()
            topics = described.result()
        except AbortRequired:  # a transaction on these offsets is pending: its end decides
            one.not_before = self._clock.monotonic() + RETRY_SECONDS
            return
        except KStreamError as error:
            again.warning("task %s: its committed offsets cannot be read: %s; trying again", one.task.name, error)
            one.not_before = self._clock.monotonic() + FAILED_SECONDS
            one.question.anew()
            return
        if not one.question.is_answered(found, topics):
            return
        found = {at: found[at] for at in one.task.inputs}
        one.committed = {at: None if entry is None else entry[0] for at, entry in found.items()}
        said = self._offsets.said(one.task, found)
        one.said = newest(found)
        changelogs = [(store, self.changelog(one.task, store)) for store in one.task.stores]
        logs = [changelog.topic for _, changelog in changelogs]
        names = [*(at.topic for at in one.task.inputs), *logs]
        if not self._are_described(one, names, topics):
            return
        one.ids = ids_in(topics, names)
        one.topic_ids = {at: known for at in one.task.inputs if (known := one.ids.get(at.topic) or said[at].topic_id)}
        self._inputs.check_partitions(one.task, topics)
        one.anew = self._offsets.made_anew(one.task, said, one.committed, topics)
        one.changelog_ids = {topic: one.ids[topic] for topic in logs if topic in one.ids}
        one.changelog_note = changelogs_of(one.changelog_ids, logs, one.said)
        one.lost = self._offsets.lost_state(one.task, one.said, one.changelog_ids)
        unmoved = one.committed == one.task.committed and one.said.commit == one.task.commits
        restored = one.task.restored_at is None and self._opening.is_open(one.task)
        if restored and not one.full and not one.anew and not one.lost and unmoved:
            one.positions = one.task.committed
            one.go(RestoreStage.DONE)
            return
        one.task.rewind()
        one.task.restored_at = {}
        for _, changelog in changelogs:
            changelog.is_of(one.ids.get(changelog.topic))
        one.task.ageing.seed(one.said.event_time, one.said.wall_time)
        one.task.ageing.seed_inputs(one.said.task_time, {at.topic: (s.input_time, s.waited) for at, s in said.items()})
        one.changelogs = {TopicPartition(each[1].topic, one.task.partition): each for each in changelogs}
        one.go(RestoreStage.ENDS)

    # ---- (c) ends of the changelogs, and the bounds of the inputs, once the local state is open

    def _open(self, one: _Restoring) -> bool:
        """Whether its local state is open."""
        if self._opening.is_open(one.task):
            return True
        if self._clock.monotonic() < one.not_before:
            return False
        if self._opening.open(one.task):
            return True
        one.not_before = self._clock.monotonic() + RETRY_SECONDS
        return False

    def _are_described(self, one: _Restoring, names: Sequence[str], topics: Answer) -> bool:
        """Whether all its topics are known to the broker that was asked. Without their ids its next commit would not
        name them. Raises TaskFailed where they are not for too long."""
        missing = [name for name in dict.fromkeys(names) if name not in topics]
        if not missing:
            return True
        if one.missing.is_too_long(self._clock.monotonic()):
            raise undescribed(one.task, one.said, missing)
        one.not_before = self._clock.monotonic() + LAG_SECONDS
        return False

    def _doubt(self, one: _Restoring, error: KStreamError) -> None:
        """Raises TaskFailed where a topic or partition has been unknown for too long to be just made."""
        if not isinstance(error, TopicError):
            one.missing.nothing()
        elif one.missing.is_too_long(self._clock.monotonic()):
            raise lacking(one.task, (at.topic for at in (*one.task.inputs, *one.changelogs)), error)

    def _ask_ends(self, one: _Restoring) -> None:
        if one.ends is None or one.starts is None:
            if self._clock.monotonic() < one.not_before:
                return
            partitions = [*one.changelogs, *one.task.inputs]
            one.ends, one.starts = self._admin.end_offsets(partitions), self._admin.start_offsets(partitions)
        if not (one.ends.done() and one.starts.done()):
            return
        if one.topics is None:
            one.topics = Later(self._inputs)
        if not one.topics.done():
            return
        ends_future, starts_future, described = one.ends, one.starts, one.topics
        one.ends = one.starts = one.topics = None
        try:
            ends, starts, topics = ends_future.result(), starts_future.result(), described.result()
        except KStreamError as error:
            again.warning(
                "task %s: the end offsets of its topics cannot be read: %s; trying again", one.task.name, error
            )
            one.not_before = self._clock.monotonic() + FAILED_SECONDS
            self._doubt(one, error)
            return
        if are_others(one.ids, topics):  # made anew since: these may be another topic's ends
            one.question.anew()
            one.go(RestoreStage.OFFSETS)
            return
        one.missing.nothing()
        if self._fetches is not None and one.fetch is None:
            bounds = [Bound(*each, starts[at], ends[at]) for at, each in one.changelogs.items()]
            choice = Choice(bounds, one.task.backend.mark, self._clock.time(), self._delete_retention)
            if choice.wants_snapshot and one.task.backend.snapshotted:
                one.fetch = self._fetches.begin(one.task, choice.fits)
                one.go(RestoreStage.FETCH)
                return
        one.positions = {at: self._position(one, at, starts[at], ends[at]) for at in one.task.inputs}
        one.task.restored_at = one.positions
        one.task.ageing.restored_at({at: ends[at] for at in one.task.inputs})
        much = []
        for at, (store, changelog) in one.changelogs.items():
            if self._begin_tail(one, store, changelog, starts[at], ends[at]) >= MUCH:
                much.append(store)
        self._bulk(one.task, much, on=True)
        one.go(RestoreStage.REPLAY)
        if self.replay.of(one.task):
            self.replay.assign()

    def _look_at_fetch(self, one: _Restoring) -> None:
        """Goes on when a snapshot is in place of the local state, or there is none."""
        assert one.fetch is not None
        one.fetch.step()
        if one.fetch.stands:
            log.warning("task %s: the storage of its snapshots does not answer; it is restored without", one.task.name)
            one.fetch.abandon()
        elif not one.fetch.done:
            return
        if one.fetch.error is not None:
            raise one.fetch.error
        one.go(RestoreStage.ENDS)

    def _position(self, one: _Restoring, at: TopicPartition, start: int, end: int) -> int:
        """Where an input is read from."""
        committed = one.committed.get(at)
        if at in one.anew or (committed is None and (self._inputs.was_added(at) or at in one.task.reading.delays)):
            return start
        return self._offsets.position(one.task, at, committed, start, end)

    def _begin_tail(self, one: _Restoring, store: str, changelog: Changelog, start: int, end: int) -> int:
        """Decides where replay begins: at what the local store has applied, or at the changelog's start. Returns how
        many records are to be replayed, at most."""
        backend = one.task.backend
        mark, reason = fit(backend.mark, changelog, start, end, self._clock.time(), self._delete_retention)
        if reason is not None:
            log.warning(
                "task %s: the local state of store %s is rebuilt from its changelog: %s", one.task.name, store, reason
            )
        if mark is None:
            reset(backend, changelog.spec)
            position = start
        else:
            position = mark.offset
        changelog.next_offset = position
        if position < end:
            self.replay.add(one.task, changelog, store, position, end, one.task.stores[store].now)
        return end - position

    def _bulk(self, task: Task, stores: Iterable[str], *, on: bool) -> None:
        """Begins or ends the bulk load of these stores. It takes the loop's time: a database is opened anew."""
        families = [family for store in stores for family in task.stores[store].families]
        if families:
            began = self._clock.monotonic()
            task.backend.bulk(families, on=on)
            self.restraint.spent(self._clock.monotonic() - began, 0, beside=self._beside)

    # ---- (e)

    def _finish(self, one: _Restoring) -> None:
        del self._restoring[one.task.name]
        with damage_of(one.task):
            one.lost = self._offsets.check_state(one.task, one.committed, one.said, one.question.counted) or one.lost
            self._bulk(one.task, one.task.stores, on=False)
        new = bool(one.anew) or one.lost or is_new(one.changelog_note, one.said, one.committed)
        touched = one.task.touched or new  # committed soon: with what holds now
        one.task.start_from(one.positions)
        one.task.restored_at = None
        one.task.topic_ids = one.topic_ids
        one.task.commits = number_of(one.said, one.committed, self._clock.time())
        one.task.changelog_ids = one.changelog_ids
        one.task.changelog_note = one.changelog_note
        one.task.touched = touched
        if one.task.state is TaskState.RESTORING:
            one.task.go(TaskState.RUNNING)
        self.durations.took(one.task.name, self._clock.monotonic() - one.began, others=bool(self._restoring))
