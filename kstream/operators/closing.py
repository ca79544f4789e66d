"""Operators that have something due when time goes on (windows close, timers fire), and what they tell then."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kstream.errors import RecordRefused, ResultFailed, StateError, TransactionError, text_of
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin

AT_ONCE: Final = 10_000
"""Results that are due together go on in batches of so many."""


class TooManyDue(ResultFailed):
    """More timers are due before one record than fire in a row: what was done is taken back, and time goes on by
    pieces (`runtime/task/overdue.py`).

    Attributes:
        before: the time that it was to go to, in ms since the epoch.
    """

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

    def left_out(self, time: int) -> None:
        """A record that was left out, before anything was done with it, has moved time there. What is due by then is
        done before the next record."""

    def closes_by(self, time: int) -> bool:
        """Whether something would be told, or removed, if it were this time (ms). Asked of idle tasks: time goes on
        there when it matters, for that takes a commit. True where that cannot be said."""
        return True


def task_times(batch: Batch, now: int) -> list[int]:
    """The time of the task at each record; `now` where nothing was read that the batch comes of."""
    return [now] * batch.size if batch.origin is None else batch.of_rows(batch.origin.watermarks)


class TimeOrigin(Origin):
    """The batch that moved time to where results are told: they have their places in its order and its times. Its
    records have nothing to do with them, so they have no topic, no headers and no offset of one."""

    __slots__ = ()
    of_time = True

    def __init__(self, moved: Origin) -> None:
        super().__init__(moved.fetch, bounds=moved.bounds, topic="")
        self.times, self.watermarks = moved.times, moved.watermarks
        self._headers, self._offsets = [None] * len(moved.fetch), [-1] * len(moved.fetch)


def behind(origin: Origin | None) -> Origin | None:
    """The origin of results that are told because time went on, by the batch of this one."""
    return origin if origin is None or origin.of_time else TimeOrigin(origin)


@contextmanager
def telling(store: str, what: str = "the result of a window of") -> Iterator[None]:
    """No record is at fault where this fails: the one that moved time has nothing to do with the results.

    Args:
        what: they are, for the message.

    Raises:
        ResultFailed: something is done with them that fails.
    """
    try:
        yield
    except (TransactionError, StateError, RecordRefused, ResultFailed, KeyboardInterrupt):
        raise
    except BaseException as error:  # `sys.exit`, too
        raise ResultFailed(f"processing {what} {store!r} failed: {text_of(error, repr)}") from error
