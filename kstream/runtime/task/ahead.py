"""Event times of records that wait in a task's buffers: which input comes next is asked again and again, and the times
may be in the values. Each is read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kstream.operators.marks import Marks
from kstream.types import Fetch, TopicPartition

BEFORE_ALL: Final = -(1 << 63)
"""The time of a record whose time cannot be read: it is taken at once, and fails where it is processed."""

FIRST_BLOCK: Final = 16
"""Times that are read at first, where it is asked how many come before one; then twice as many, and so on."""


class Ahead:
    """The times of the first records of each input's buffer.

    Args:
        event_times: of the records of a fetch (ms). May raise anything.
    """

    def __init__(self, event_times: Callable[[Fetch], list[int]]) -> None:
        self._event_times = event_times
        self._known: dict[TopicPartition, tuple[Fetch, int, list[int]]] = {}  # of which, from where in the list

    def head(self, fetch: Fetch) -> int:
        """That of its first record, in ms."""
        start, times = self._read(fetch, 1)
        return times[start]

    def before(self, fetch: Fetch, bound: int, most: int) -> int:
        """How many of its first records, `most` at most, come before the first one whose time (ms) is not below the
        bound. Each of them is looked at, none much farther."""
        most, block, done = min(most, len(fetch)), FIRST_BLOCK, 0
        while done < most:
            upto = min(done + block, most)
            start, times = self._read(fetch, upto)
            part = times[start + done : start + upto]
            if max(part) >= bound:
                return done + next(index for index, time in enumerate(part) if time >= bound)
            done, block = upto, block * 2
        return most

    def cut(self, fetch: Fetch, size: int, rest: Fetch | None) -> None:
        """The first `size` records of a fetch are taken, and the rest is the head of the buffer now."""
        known = self._known.pop(fetch.at, None)
        if rest is None or known is None or known[0] is not fetch:
            return
        _, start, times = known
        if start + size < len(times):  # more may be taken than was looked at: where no other input has records
            self._known[fetch.at] = (rest, start + size, times)

    def clear(self) -> None:
        self._known.clear()

    def _read(self, fetch: Fetch, count: int) -> tuple[int, list[int]]:
        """A list that has the times of the first `count` records, and where in it they begin."""
        known = self._known.get(fetch.at)
        if known is None or known[0] is not fetch:
            known = self._known[fetch.at] = (fetch, 0, [])
        _, start, times = known
        if (read := len(times) - start) < count:
            times += self._times(fetch.cut(read, count))
        return start, times

    def _times(self, fetch: Fetch) -> list[int]:
        if isinstance(fetch, Marks):
            return [BEFORE_ALL] * len(fetch)
        try:
            return self._event_times(fetch)
        except Exception:  # of some of them; which they are must not hang on how many are looked at
            if len(fetch) == 1:
                return [BEFORE_ALL]
        return [time for row in range(len(fetch)) for time in self._times(fetch.cut(row, row + 1))]
