"""What a task reads next: its input partitions, what is buffered of them, and how far each of them is processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kstream.operators.delayed import Delayed, Note
from kstream.operators.marks import Marks, apart
from kstream.operators.pieces import Pieces
from kstream.runtime.task.ahead import Ahead
from kstream.runtime.task.arrivals import Arrivals
from kstream.runtime.task.measures import Runs
from kstream.runtime.task.waiting import Waiting
from kstream.state.watermark import Watermark
from kstream.types import Clock, Fetch, TopicPartition

_Rank: TypeAlias = tuple[bool, TopicPartition]


@dataclass(slots=True)
class Input:
    """One input partition of a task.

    `position` is the offset after the last processed record, `committed` the same at the last commit, `end` where
    the log ended when that was last heard; `timestamp` (ms) and `last` (offset) are those of the last record
    processed, `runs` are those since the last commit. `held`: nothing of it is taken (a savepoint is being made).
    `within`: seconds that what was committed last may have waited at most, where that is known.
    """

    at: TopicPartition
    position: int = 0
    committed: int = 0
    end: int = 0
    at_end: bool = False
    idle_since: float = 0.0
    timestamp: int | None = None
    last: int = -1
    runs: Runs = field(default_factory=Runs)
    arrivals: Arrivals = field(default_factory=Arrivals)
    within: float | None = None
    held: bool = False
    only_marks: bool = False  # since it was at its end nothing came but marks of time


class Reading:
    """The inputs of one task.

    Those of delay topics stand beside the others: nothing waits for them, and they wait for nothing but the time that
    their first record is due. Records of one delay topic are due one after the other.

    Args:
        delays: the inputs that are of delay topics, and how long a record waits there (seconds).
        carrying: the inputs that have marks of time among their records.
        event_times: of the records of a fetch (ms), as the topic declares them.
        max_idle: seconds that the others wait for an empty input which is at its end.
        step: ms within which records of several inputs may come in any order: those of one are taken together.
        watermark: knows what the tasks before an input may still have.
    """

    def __init__(
        self,
        partitions: Iterable[TopicPartition],
        event_times: Callable[[Fetch], list[int]],
        clock: Clock,
        max_idle: float,
        delays: Mapping[TopicPartition, float] | None = None,
        carrying: Collection[TopicPartition] = (),
        step: int = 1,
        watermark: Watermark | None = None,
    ) -> None:
        self._step, self._watermark = step, watermark
        self._carrying = frozenset(carrying)
        self._ahead, self._clock, self._max_idle = Ahead(event_times), clock, max_idle
        self.inputs = {at: Input(at) for at in partitions}
        self._buffers: dict[TopicPartition, deque[Fetch]] = {at: deque() for at in self.inputs}
        self._delays = {at: Waiting(seconds) for at, seconds in (delays or {}).items()}
        self._sources = {at: one for at, one in self.inputs.items() if at not in self._delays}
        self._sources_next = True  # both kinds have records: by turns
        in_order = watermark is not None and step == 1 and len(self._sources) > 1
        # of one time, what users write comes before what has travelled
        self._ranks: dict[TopicPartition, _Rank] = {at: (at in self._carrying, at) for at in self._sources}
        self._behind = [at for at in carrying if in_order and at in self._sources]  # others wait for those before them

    # ---- how far it is

    @property
    def positions(self) -> dict[TopicPartition, int]:
        return {at: one.position for at, one in self.inputs.items()}

    @property
    def committed(self) -> dict[TopicPartition, int]:
        return {at: one.committed for at, one in self.inputs.items()}

    @property
    def timestamps(self) -> dict[TopicPartition, int | None]:
        """Kafka's timestamp (ms) of the last record processed of each input."""
        return {at: one.timestamp for at, one in self.inputs.items()}

    @property
    def uncommitted(self) -> int:
        """Records processed since the last commit."""
        return sum(one.runs.records for one in self.inputs.values())

    @property
    def last_record(self) -> tuple[TopicPartition, int]:
        """Input and offset of a record that was processed last, since the last commit where there was one."""
        inputs = self.inputs.values()
        one = next((one for one in inputs if one.runs.records), next(iter(inputs)))
        return one.at, one.last

    def processed(self, fetch: Fetch) -> int:
        """These records are done. Returns how many count: marks of time do not."""
        one = self.inputs[fetch.at]
        one.position = fetch.last_offset + 1
        self._skip_to_end(one)
        if isinstance(fetch, Marks):
            return 0
        one.timestamp, one.last = fetch.last_timestamp, fetch.last_offset
        one.runs.add(len(fetch), fetch.first_timestamp, one.timestamp)
        return len(fetch)

    def start_from(self, positions: Mapping[TopicPartition, int]) -> None:
        for at, offset in positions.items():
            one = self.inputs[at]
            one.position = one.committed = offset
            one.at_end = one.only_marks = False
            one.runs.drop()
        for waiting in self._delays.values():
            waiting.head = -1
            waiting.notes.clear()

    def was_committed(self) -> None:
        """What is processed is committed."""
        now = self._clock.monotonic()
        for one in self.inputs.values():
            one.within = one.arrivals.within(one.committed, now) if one.runs.records else None
            one.committed = one.position
        for at, waiting in self._delays.items():
            committed = self.inputs[at].committed
            waiting.notes = {offset: note for offset, note in waiting.notes.items() if offset >= committed}

    # ---- what is buffered

    @property
    def buffered(self) -> int:
        """Records that may be processed now."""
        if not any(self._buffers.values()):  # as in most of the tasks, each of which is asked several times a turn
            return 0
        waiting = self.waiting if self._delays else ()
        return sum(len(fetch) for at, buffer in self._buffers.items() if at not in waiting for fetch in buffer)

    def has(self, at: TopicPartition) -> bool:
        """Whether records of this input are buffered."""
        return bool(self._buffers[at])

    def reach(self, at: TopicPartition) -> int:
        """The offset behind the last record of this input that was fetched."""
        buffer = self._buffers[at]
        return buffer[-1].last_offset + 1 if buffer else self.inputs[at].position

    def lying(self, at: TopicPartition) -> int:
        """How many records of this input are buffered."""
        return sum(map(len, self._buffers[at]))

    def add(self, fetch: Fetch, in_work: Fetch | None) -> None:
        """Takes what was fetched. Records before the position were seen already (a fetch repeated after a seek)."""
        buffer, one = self._buffers[fetch.at], self.inputs[fetch.at]
        if one.held:  # it is read again from the position
            return
        if (waiting := self._delays.get(fetch.at)) is not None:
            fetch = Delayed(fetch)
            pairs = zip(fetch.offsets(), fetch.notes, strict=True)
            waiting.notes |= {offset: note for offset, note in pairs if note is not None}
        expected = self.reach(fetch.at)
        if in_work is not None and in_work.at == fetch.at:
            expected = max(expected, in_work.last_offset + 1)
        if fetch.first_offset < expected:
            start = sum(1 for offset in fetch.offsets() if offset < expected)
            if start == len(fetch):
                return
            fetch = fetch.cut(start, len(fetch))
        parts = list(apart(fetch)) if fetch.at in self._carrying else [fetch]
        buffer.extend(parts)
        one.only_marks = (one.at_end or one.only_marks) and all(isinstance(part, Marks) for part in parts)
        one.at_end = False

    def reached_end(self, at: TopicPartition, offset: int, *, busy: bool) -> None:
        """The log ends here.

        Args:
            busy: records of this input are still in work.
        """
        one = self.inputs[at]
        if one.held:  # what lies before this end is not all processed
            return
        one.at_end, one.end = True, offset
        if not one.only_marks:  # these come all the time
            one.idle_since = self._clock.monotonic()
        if not busy:
            self._skip_to_end(one)

    def _skip_to_end(self, one: Input) -> None:
        """Past the last record only control markers lie before the end. Not worth a commit of its own."""
        if one.at_end and not self._buffers[one.at]:
            one.position = max(one.position, one.end)

    @property
    def at_end(self) -> bool:
        """Whether all was read that may be read: what lies behind is of transactions that are still open."""
        waiting = self.waiting if self._delays else ()
        return all(one.at_end or at in waiting for at, one in self.inputs.items())

    @property
    def is_through(self) -> bool:
        """Whether all was processed that there is, or is not held, here and in the tasks before."""
        waiting, mark = self.waiting if self._delays else (), self._watermark
        ended = all(one.at_end or one.held or at in waiting for at, one in self.inputs.items())
        if not ended or any(self._buffers[at] for at in self._sources):
            return False
        return mark is None or (
            mark.target <= mark.now  # or timers are due on the way
            and all(mark.least_to_come(at.topic) is None for at in self._carrying if at in self._sources)
        )

    def drop(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()
        self._ahead.clear()

    def idle_since(self, then: float) -> dict[TopicPartition, float]:
        """The inputs of sources that have been at their end since then (monotonic), and have nothing buffered, with
        since when they are."""
        ends = ((at, one) for at, one in self._sources.items() if one.at_end and one.idle_since <= then)
        return {at: one.idle_since for at, one in ends if not one.held and not self._buffers[at]}

    # ---- what is held

    @property
    def held(self) -> list[TopicPartition]:
        """The inputs of which nothing is taken."""
        return [at for at, one in self.inputs.items() if one.held]

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Takes nothing more of these inputs; what is buffered of them is dropped. The others do not wait for them."""
        for at in partitions:
            one = self.inputs[at]
            one.held, one.at_end, one.only_marks = True, False, False
            self._buffers[at].clear()
        self._ahead.clear()

    def release(self) -> dict[TopicPartition, int]:
        """The inputs that were held, and where they are to be read on."""
        held = self.held
        for at in held:
            self.inputs[at].held = False
        return {at: self.inputs[at].position for at in held}

    # ---- which comes next

    def take(self, size: int) -> Fetch | None:
        """The next records, `size` at most, as many as come before those of all other inputs."""
        if self._delays and (fetch := self._take_due(size)) is not None:
            return fetch
        at = self._choose()
        if at is None:
            return None
        fetch = self._buffers[at].popleft()
        if len(self._sources) > 1:
            size = self._run_length(at, fetch, size) if size > 1 else size
            size, whole = min(size, len(fetch)), fetch
            fetch = self.cut(whole, size)
            self._ahead.cut(whole, size, self._buffers[at][0] if size < len(whole) else None)
            return fetch
        return self.cut(fetch, size)

    def put_back(self, fetch: Fetch) -> None:
        """It was taken, and comes next again."""
        for piece in reversed(fetch.pieces) if isinstance(fetch, Pieces) else (fetch,):
            self._buffers[piece.at].appendleft(piece)

    def cut(self, fetch: Fetch, size: int) -> Fetch:
        """The first `size` records of a fetch that was taken; the rest is the next to come of its input."""
        if size < len(fetch):
            self._buffers[fetch.at].appendleft(fetch.cut(size, len(fetch)))
            fetch = fetch.cut(0, size)
        return fetch

    def _choose(self) -> TopicPartition | None:
        """The input to read next: the one with the earliest head, as Kafka Streams does (KIP-695).

        While an input is empty and not known to be at its end, the others wait for it; at its end they wait
        `max_idle` seconds more. Of a repartition topic, until the tasks that write it are through, or as far.
        """
        if len(self._sources) == 1:
            (at,) = self._sources
            return at if self._buffers[at] else None
        heads: list[tuple[int, _Rank]] = []
        for at, one in self._sources.items():
            if self._buffers[at]:
                heads.append((self._head(at), self._ranks[at]))
            elif not self._may_be_skipped(one):
                return None
        if self._behind and heads and (before := self._before()) and min(before) < min(heads):
            return None
        return min(heads)[1][1] if heads else None

    def _before(self) -> list[tuple[int, _Rank]]:
        """What may come next of empty inputs, at the earliest."""
        assert self._watermark is not None
        empty = (at for at in self._behind if not self._buffers[at] and not self.inputs[at].held)
        least = ((self._watermark.least_to_come(at.topic), at) for at in empty)
        return [(time, self._ranks[at]) for time, at in least if time is not None]

    @property
    def waits_for_commits(self) -> bool:
        """Whether it has records, and takes none before the tasks before have committed."""
        return bool(self._behind) and any(self._buffers[at] for at in self._sources) and self._choose() is None

    @property
    def missing(self) -> list[TopicPartition]:
        """Empty inputs that the others, which have records, wait for."""
        if self._choose() is not None or not any(self._buffers[at] for at in self._sources):
            return []
        behind = {at for _, (_, at) in self._before()} if self._behind else ()
        return [
            at
            for at, one in self._sources.items()
            if not self._buffers[at] and (at in behind or not self._may_be_skipped(one))
        ]

    def _head(self, at: TopicPartition) -> int:
        """The step of time that the next record is of."""
        return self._ahead.head(self._buffers[at][0]) // self._step

    def _may_be_skipped(self, one: Input) -> bool:
        return one.held or (one.at_end and self._clock.monotonic() - one.idle_since >= self._max_idle)

    def _run_length(self, at: TopicPartition, fetch: Fetch, size: int) -> int:
        """How many records of the fetch come before the heads of all other inputs (`_choose` takes them so, too)."""
        others = [(self._head(one), self._ranks[one]) for one in self._sources if one != at and self._buffers[one]]
        others += self._before() if self._behind else ()
        if not others:
            return size
        limit, rank = min(others)
        bound = (limit + (self._ranks[at] <= rank)) * self._step
        return max(1, self._ahead.before(fetch, bound, size))

    # ---- delay topics

    @property
    def delays(self) -> Collection[TopicPartition]:
        """The inputs that are of delay topics."""
        return self._delays.keys()

    @property
    def waiting(self) -> dict[TopicPartition, float]:
        """Those whose first record is not due yet, and when it is (monotonic)."""
        now = self._clock.monotonic()
        return {at: due for at in self._delays if self._buffers[at] and (due := self._due(at)) > now}

    def overdue(self, at: TopicPartition, waited: float) -> float:
        """For how many seconds the next record of a delay topic has been due, when it has `waited` (seconds) there."""
        known = self._clock.monotonic() - self._due(at) if self._buffers[at] else 0.0
        return max(0.0, known, waited - self._delays[at].seconds)

    def note(self, at: TopicPartition, offset: int) -> Note | None:
        """Of a record that was set aside before; None of one that was not."""
        return self._delays[at].notes.get(offset) if at in self._delays else None

    def _due(self, at: TopicPartition) -> float:
        """When the first record that is buffered is due. A wall clock that was set back does not make it wait longer
        than its delay."""
        waiting, fetch = self._delays[at], self._buffers[at][0]
        if waiting.head != fetch.first_offset:
            note = waiting.notes.get(fetch.first_offset)
            left = 0.0 if note is None else min(max(0.0, note.due / 1000 - self._clock.time()), waiting.seconds)
            waiting.head, waiting.due = fetch.first_offset, self._clock.monotonic() + left
        return waiting.due

    def _take_due(self, size: int) -> Fetch | None:
        """The next records that are due, where it is their turn."""
        self._sources_next = not self._sources_next
        if self._sources_next and self._choose() is not None:
            return None
        now = self._clock.monotonic()
        due, at = min(((self._due(at), at) for at in self._delays if self._buffers[at]), default=(now + 1, None))
        if at is None or due > now:
            return None
        fetch = self._buffers[at].popleft()
        assert isinstance(fetch, Delayed)
        return self.cut(fetch, min(size, max(1, fetch.due(round(self._clock.time() * 1000)))))
