"""Operators that have something due when time goes on (windows close, timers fire), and what they tell then."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable

from kstream.errors import ResultFailed
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE


class TooManyDue(ResultFailed):
    """More timers are due before one record than fire in a row: what was done is taken back, and time goes on by
    pieces (`runtime/task/overdue.py`).

    Attributes:
        before: the time that it was to go to, in ms since the epoch.
    """

    goes_on = True

    def __init__(self, of: str, processor: str, key: str, timer: str, at: int, before: int) -> None:
        self.before = before
        super().__init__(
            f"{AT_ONCE:,} timers fired in a row and there are more, the last of {of} {processor!r}, key {key}, "
            f"timer {timer!r} of {at} (ms), on the way to event time {before}: time goes on from timer to timer now, "
            "with commits in between. One that sets itself again fires for each step of a jump in time"
        )


class DueFirst(Exception):
    """Many timers are due before a record of a batch of which nothing was done yet: time goes on by pieces up to there,
    and the batch comes again.

    Attributes:
        before: the time of the task at that record, in ms since the epoch.
        rows: of the batch, before that record.
    """

    def __init__(self, before: int, rows: int) -> None:
        super().__init__(before, rows)
        self.before, self.rows = before, rows


class Closing(Operator):
    """Is told of time by the sources before it."""

    @abstractmethod
    def time_passed(self, origin: Origin | None) -> None:
        """A batch is through, whether or not some of it came here; or time went on by itself."""

    def through(self, origin: Origin | None) -> None:
        """See Waiting."""
        self.time_passed(origin)

    def left_out(self, time: int) -> None:
        """A record that was left out, before anything was done with it, has moved time there. What is due by then is
        done before the next record."""

    def closes_by(self, time: int) -> bool:
        """Whether something would be told, or removed, if it were this time (ms). Asked of idle tasks: time goes on
        there when it matters, for that takes a commit. True where that cannot be said."""
        return True


def task_times(batch: Batch, now: int) -> list[int]:
    """The time of the task at each record; `now` where nothing was read that the batch comes of."""
    origin = batch.origin
    return [now] * batch.size if origin is None or origin.timeless else batch.of_rows(origin.watermarks)


def rows_at(origin: Origin | None, due: Iterable[int]) -> list[int] | None:
    """For each of these times (ms) the record of the origin that moved time there, the last one where none did. None
    where no batch moved time."""
    if origin is None or not origin.watermarks:
        return None
    times = origin.watermarks
    last = len(times) - 1
    return [min(bisect_left(times, at), last) for at in due]
