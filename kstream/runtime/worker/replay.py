"""Step (d) of restores (see `restore`): the tails of changelogs, read committed by one reader for all tasks, are
applied to their stores. Progress is logged, and can be read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Protocol, cast

from kstream.errors import KStreamError, PartitionUnreadable, StateError
from kstream.observe.logs import PERFORMANCE
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.state.backend import Backend, Changes, Mark
from kstream.state.changelog import Changelog
from kstream.state.expiry import families_of
from kstream.state.replayed import marked, replayed
from kstream.types import Clock, ConsumerClient, Fetch, TopicPartition

log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 5.0


class Replayed(Protocol):
    """Whose changelogs are replayed: a task, or a warm copy of one."""

    @property
    def name(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def backend(self) -> Backend: ...


@dataclass(slots=True)
class _Tail:
    """What is left to replay of one changelog."""

    task: Replayed
    changelog: Changelog
    store: str
    position: int
    end: int
    now: int


class Replay:
    """Replays the tails of any number of tasks at once.

    Args:
        endless: the tails have no ends, so nothing is told of what is left.

    Attributes:
        records, bytes: replayed so far; bytes are those of values.
    """

    def __init__(self, reader: Callable[[], ConsumerClient], clock: Clock, *, endless: bool = False) -> None:
        self._make_reader, self._clock, self._endless = reader, clock, endless
        self._reader: ConsumerClient | None = None
        self._tails: dict[TopicPartition, _Tail] = {}
        self._of: dict[str, set[TopicPartition]] = {}  # those of each task that has some left
        self._began = self._last_progress = 0.0
        self._since = self._bytes_since = 0  # records and bytes since tails were last empty
        self.records = 0
        self.bytes = 0

    def __len__(self) -> int:
        """Changelogs that are not replayed to their ends yet."""
        return len(self._tails)

    def of(self, task: Replayed) -> bool:
        """Whether there is something left to replay of a task."""
        return task.name in self._of

    def remaining(self) -> int:
        """Changelog records left to replay, at most (gaps and markers count)."""
        return sum(max(0, tail.end - tail.position) for tail in self._tails.values())

    def remaining_of(self) -> dict[str, int]:
        """The same of each task that has changelogs to replay, by name."""
        left: dict[str, int] = {}
        for tail in self._tails.values():
            left[tail.task.name] = left.get(tail.task.name, 0) + max(0, tail.end - tail.position)
        return left

    def behind(self, ends: Mapping[TopicPartition, int]) -> int:
        """Records up to the changelogs' ends.

        Args:
            ends: as they were asked for once; the reader hears of later ones.
        """
        if self._reader is None:
            return 0
        heard = {at: max(ends.get(at, 0), self._reader.high_watermark(at) or 0) for at in self._tails}
        return sum(max(0, end - self._tails[at].position) for at, end in heard.items())

    def remaining_bytes(self) -> int | None:
        """About how many bytes of values these are, by those so far; None while nothing was replayed."""
        return self.remaining() * self._bytes_since // self._since if self._tails and self._since else None

    def seconds_left(self) -> float | None:
        """An estimate by the speed so far; None while nothing was replayed."""
        seconds = self._clock.monotonic() - self._began
        if not self._tails or not self._since or seconds <= 0:
            return None
        return self.remaining() * seconds / self._since

    def add(self, task: Replayed, changelog: Changelog, store: str, position: int, end: int, now: int = 0) -> None:
        """Notes a tail, from `position` to before `end`. Call `assign` when all of a task's are noted. `now` is the
        time of the store, in ms since the epoch."""
        if not self._tails:
            self._began = self._last_progress = self._clock.monotonic()
            self._since = self._bytes_since = 0
        at = TopicPartition(changelog.topic, task.partition)
        self._tails[at] = _Tail(task, changelog, store, position, end, now)
        self._of.setdefault(task.name, set()).add(at)

    def reading(self, topics: Sequence[str]) -> set[str]:
        """The tasks, by name, of which tails are in these topics."""
        return {tail.task.name for at, tail in self._tails.items() if at.topic in topics}

    def drop(self, task: Replayed) -> None:
        """Forgets the task's tails. What was replayed stays, with its mark."""
        if tails := self._of.pop(task.name, None):
            for at in tails:
                del self._tails[at]
            self.assign()

    def assign(self) -> None:
        """Points the reader at all tails; what it had prefetched of others is dropped."""
        if self._reader is None:
            self._reader = self._make_reader()
        self._reader.assign({at: tail.position for at, tail in self._tails.items()})

    def step(self, max_records: int, timeout: float) -> list[Replayed]:
        """Polls the reader once and applies what came.

        Args:
            timeout: how long the reader may wait for records, in seconds.

        Returns: the tasks whose bounds are to be asked for again: a position was no longer in its changelog (records
            were deleted meanwhile), and all tails were dropped.

        Raises:
            StateDamaged: the local state of a task cannot be used.
            TaskFailed: a changelog of a task cannot be read, or has a record that cannot be used.
        """
        assert self._reader is not None
        try:
            polled = self._reader.poll(max_records, timeout)
        except StateError as error:
            log.warning("restore: %s; reading the bounds of the changelogs again", error)
            tasks = {tail.task.name: tail.task for tail in self._tails.values()}
            self._tails.clear()
            self._of.clear()
            return list(tasks.values())
        except PartitionUnreadable as error:
            tail = self._tails.get(TopicPartition(error.topic, error.partition))
            if tail is None:  # of a task that was dropped meanwhile
                return []
            raise TaskFailed(tail.task.name, error.of(tail.task.name)) from error
        for fetch in polled.fetches:
            tail = self._tails.get(fetch.at)
            if tail is not None and fetch.last_offset >= tail.position:
                with damage_of(tail.task):
                    self._apply(tail, fetch)
        for at, offset in polled.ends.items():  # behind the last record there may be markers of transactions
            if (tail := self._tails.get(at)) is not None:
                tail.position = max(tail.position, offset)
        finished = [at for at, offset in polled.ends.items() if at in self._tails and offset >= self._tails[at].end]
        for at in finished:
            with damage_of(self._tails[at].task):
                self._end_tail(at, polled.ends[at])
        self._log_progress()
        return []

    def close(self) -> None:
        self._tails.clear()
        self._of.clear()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _apply(self, tail: _Tail, fetch: Fetch) -> None:
        spec = tail.changelog.spec
        try:
            changes = _changes_of(tail, fetch)
        except StateError:
            raise
        except KStreamError as error:
            raise _unusable(tail, fetch, error) from error
        tail.position = fetch.last_offset + 1
        mark = Mark(tail.position, fetch.last_timestamp / 1000, tail.changelog.packed)
        tail.task.backend.write(changes, marked(spec, mark))
        size = sum(map(len, filter(None, fetch.values())))
        self._since += len(fetch)
        self._bytes_since += size
        self.records += len(fetch)
        self.bytes += size

    def _end_tail(self, at: TopicPartition, offset: int) -> None:
        tail = self._tails.pop(at)
        mark = Mark(max(tail.position, offset), self._clock.time(), tail.changelog.packed)
        tail.task.backend.write({}, marked(tail.changelog.spec, mark))
        tail.changelog.next_offset = mark.offset
        left = self._of[tail.task.name]
        left.discard(at)
        if not left:
            del self._of[tail.task.name]

    def _log_progress(self) -> None:
        if self._endless:
            return
        now = self._clock.monotonic()
        left, size = self.seconds_left(), self.remaining_bytes()
        if now - self._last_progress >= PROGRESS_SECONDS and left is not None and size is not None:
            self._last_progress = now
            log.info(
                "restoring %d changelogs: %d records (%.1f MB) so far, %d (%.1f MB) to go, about %.0f s",
                len(self._tails), self._since, self._bytes_since / 1e6, self.remaining(), size / 1e6, left,
                extra=PERFORMANCE,
            )  # fmt: skip


def fit(
    marks: Callable[[str], Mark | None], changelog: Changelog, start: int, end: int, now: float, retention: float
) -> tuple[Mark | None, str | None]:
    """How far a store has applied its changelog; None, and why, where it has to be rebuilt. Without a reason nothing
    was written to it yet.

    Each of its families has a mark, and is asked: one may be left from a declaration that the store had before. They
    are flushed one after the other: where a crash came between, the oldest mark says what is missing.

    Args:
        marks: by family. For the others see `unfit`.
    """
    found = [marks(family) for family in families_of(changelog.spec)]
    known = [mark for mark in found if mark is not None]
    for mark in known:
        if reason := unfit(mark, changelog, start, end, now, retention):
            return None, reason
    if found[0] is None:
        return None, None
    if len(known) < len(found):
        return None, "its expiry index is not there, and is made with it (Sweep)"
    return min(known, key=attrgetter("offset")), None


def unfit(mark: Mark, changelog: Changelog, start: int, end: int, now: float, retention: float) -> str | None:
    """Why a store with this mark has to be rebuilt; None where its tail is all it lacks.

    Args:
        start, end: the bounds of the changelog.
        now: seconds since the epoch.
        retention: seconds for which the changelog has tombstones.
    """
    if misfit := changelog.about.misfit(mark.about):
        return misfit
    if mark.offset > end:
        return f"it is ahead of its changelog (offset {mark.offset}, end {end})"
    if mark.offset < start:
        return f"its offset {mark.offset} was deleted from the changelog, which starts at {start}"
    age = now - mark.wall_time
    if age > retention and mark.offset < end - 1:
        return f"it was written {age / 86_400:.1f} days ago, and tombstones may have left the changelog since"
    return None


@contextmanager
def damage_of(task: Replayed) -> Iterator[None]:
    """What a store raises inside comes out as damage of the task's state."""
    try:
        yield
    except StateError as error:
        raise StateDamaged(task.name, error) from error


def _changes_of(tail: _Tail, fetch: Fetch) -> Mapping[str, Changes]:
    """What records of a changelog become in the backend, by family."""
    keys = fetch.keys()
    if None in keys:
        raise KStreamError("it has no key, so another program writes to the changelog: stop it, and reset the app")
    return replayed(tail.changelog.spec, cast("list[bytes]", keys), fetch, tail.now)


def _unusable(tail: _Tail, fetch: Fetch, error: KStreamError) -> TaskFailed:
    """Names the first record that cannot be used."""
    offset = fetch.first_offset
    for row in range(len(fetch)):
        one = fetch.cut(row, row + 1)
        try:
            _changes_of(tail, one)
        except KStreamError as found:
            offset, error = one.first_offset, found
            break
    name = tail.task.name
    text = f"task {name} stopped: the record of changelog {fetch.at} at offset {offset} cannot be used: {error}"
    return TaskFailed(name, KStreamError(text))
