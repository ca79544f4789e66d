"""What a task reads next: its input partitions, what is buffered of them, and how far each of them is processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kstream.runtime.task.measures import Runs
from kstream.types import Clock, Fetch, TopicPartition

_BEFORE_ALL = -(1 << 63)


@dataclass(slots=True)
class Input:
    """One input partition of a task.

    `position` is the offset after the last processed record, `committed` the same at the last commit, `end` where
    the log ended when that was last heard; `timestamp` (ms) and `last` (offset) are those of the last record
    processed, `runs` are those since the last commit.
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


class Reading:
    """The inputs of one task.

    Args:
        event_times: of the records of a fetch (ms), as the topic declares them.
        max_idle: seconds that the others wait for an empty input which is at its end.
    """

    def __init__(
        self,
        partitions: Iterable[TopicPartition],
        event_times: Callable[[Fetch], list[int]],
        clock: Clock,
        max_idle: float,
    ) -> None:
        self._event_times, self._clock, self._max_idle = event_times, clock, max_idle
        self.inputs = {at: Input(at) for at in partitions}
        self._buffers: dict[TopicPartition, deque[Fetch]] = {at: deque() for at in self.inputs}

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

    def processed(self, fetch: Fetch) -> Input:
        """These records are done."""
        one = self.inputs[fetch.at]
        one.position = fetch.last_offset + 1
        self._skip_to_end(one)
        one.timestamp, one.last = fetch.last_timestamp, fetch.last_offset
        one.runs.add(len(fetch), fetch.first_timestamp, one.timestamp)
        return one

    def start_from(self, positions: Mapping[TopicPartition, int]) -> None:
        for at, offset in positions.items():
            one = self.inputs[at]
            one.position = one.committed = offset
            one.at_end = False
            one.runs.drop()

    # ---- what is buffered

    @property
    def buffered(self) -> int:
        """Records."""
        return sum(len(fetch) for buffer in self._buffers.values() for fetch in buffer)

    def has(self, at: TopicPartition) -> bool:
        """Whether records of this input are buffered."""
        return bool(self._buffers[at])

    def add(self, fetch: Fetch, in_work: Fetch | None) -> None:
        """Takes what was fetched. Records before the position were seen already (a fetch repeated after a seek)."""
        buffer, one = self._buffers[fetch.at], self.inputs[fetch.at]
        expected = buffer[-1].last_offset + 1 if buffer else one.position
        if in_work is not None and in_work.at == fetch.at:
            expected = max(expected, in_work.last_offset + 1)
        if fetch.first_offset < expected:
            start = sum(1 for offset in fetch.offsets() if offset < expected)
            if start == len(fetch):
                return
            fetch = fetch.cut(start, len(fetch))
        buffer.append(fetch)
        one.at_end = False

    def reached_end(self, at: TopicPartition, offset: int, *, busy: bool) -> None:
        """The log ends here.

        Args:
            busy: records of the task are still in work.
        """
        one = self.inputs[at]
        one.at_end, one.end = True, offset
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
        return all(one.at_end for one in self.inputs.values())

    def drop(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()

    # ---- which comes next

    def take(self, size: int) -> Fetch | None:
        """The next records, `size` at most, as many as come before those of all other inputs."""
        at = self._choose()
        if at is None:
            return None
        fetch = self._buffers[at].popleft()
        if len(self.inputs) > 1 and size > 1:
            size = self._run_length(at, fetch.cut(0, size))
        return self.cut(fetch, size)

    def put_back(self, fetch: Fetch) -> None:
        """It was taken, and comes next again."""
        self._buffers[fetch.at].appendleft(fetch)

    def cut(self, fetch: Fetch, size: int) -> Fetch:
        """The first `size` records of a fetch that was taken; the rest is the next to come of its input."""
        if size < len(fetch):
            self._buffers[fetch.at].appendleft(fetch.cut(size, len(fetch)))
            fetch = fetch.cut(0, size)
        return fetch

    def _choose(self) -> TopicPartition | None:
        """The input to read next: the one with the earliest head, as Kafka Streams does (KIP-695).

        While an input is empty and not known to be at its end, the others wait for it; at its end they wait
        `max_idle` seconds more.
        """
        if len(self.inputs) == 1:
            (at,) = self.inputs
            return at if self._buffers[at] else None
        heads: list[tuple[int, TopicPartition]] = []
        for at, buffer in self._buffers.items():
            if buffer:
                heads.append((self._head(buffer), at))
            elif not self._may_be_skipped(self.inputs[at]):
                return None
        return min(heads)[1] if heads else None

    @property
    def missing(self) -> list[TopicPartition]:
        """Empty inputs that the others, which have records, wait for."""
        if self._choose() is not None or not self.buffered:
            return []
        return [at for at, buffer in self._buffers.items() if not buffer and not self._may_be_skipped(self.inputs[at])]

    def _head(self, buffer: deque[Fetch]) -> int:
        return self._times(buffer[0].cut(0, 1))[0]

    def _times(self, fetch: Fetch) -> list[int]:
        """Event times (ms). Where one cannot be read, they count as the earliest: the records are taken at once, and
        fail where they are processed."""
        try:
            return self._event_times(fetch)
        except Exception:
            return [_BEFORE_ALL] * len(fetch)

    def _may_be_skipped(self, one: Input) -> bool:
        return one.at_end and self._clock.monotonic() - one.idle_since >= self._max_idle

    def _run_length(self, at: TopicPartition, fetch: Fetch) -> int:
        """How many records of the fetch come before the heads of all other inputs (`_choose` takes them so, too)."""
        others = [(self._head(buffer), other) for other, buffer in self._buffers.items() if other != at and buffer]
        if not others:
            return len(fetch)
        limit = min(others)
        for index, timestamp in enumerate(self._times(fetch)):
            if (timestamp, at) > limit:
                return max(1, index)
        return len(fetch)
