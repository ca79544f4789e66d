"""How far apart in time records of two streams may be that are joined, as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from kstream.errors import TopologyError
from kstream.specs.fields import check_end, whole_milliseconds
from kstream.specs.windows import Tumbling

Apart: TypeAlias = timedelta | tuple[timedelta, timedelta] | Tumbling
"""Either way; before and after; or in one window."""

MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Within:
    """A record of the right stream is joined with one of the left whose time is `at` where its own is from
    `at - before` to `at + after`, both included. All in ms; one of them may be below 0. Or, where there is a `size`,
    with those of its window.

    Attributes:
        grace: by how much records may come later than the time of their task.
        size, offset: of tumbling windows.
    """

    before: int
    after: int
    grace: int
    size: int = 0
    offset: int = 0

    @property
    def left_open(self) -> int:
        """So long after its time a record of the left may be found, at most."""
        return max(self.after, self.size, 0) + self.grace

    @property
    def right_open(self) -> int:
        """So long after its time a record of the right may be found, at most."""
        return max(self.before, self.size, 0) + self.grace

    @property
    def bucket(self) -> int:
        """How long the buckets are in which records are kept: a look-up is in three of them at most."""
        return self.size or max(1, -(-(self.before + self.after) // 2))

    def window(self, at: int) -> tuple[int, int]:
        """The first and the last ms of the window of this time."""
        first = at - (at - self.offset) % self.size
        return first, first + self.size - 1

    @property
    def layout(self) -> str:
        """What the stores of a join are laid out by: the buckets."""
        if self.size:
            begins = self.offset % self.size
            moved = f" from {timedelta(milliseconds=begins)}" if begins else ""
            return f"a join in windows of {timedelta(milliseconds=self.size)}{moved}"
        return f"a join within {self._apart}"

    @property
    def _apart(self) -> str:
        return f"{timedelta(milliseconds=self.before)} before to {timedelta(milliseconds=self.after)} after"

    def __str__(self) -> str:
        grace = timedelta(milliseconds=self.grace)
        return f"windows of {timedelta(milliseconds=self.size)}, grace={grace}" if self.size else (
            f"{self._apart}, grace={grace}"
        )  # fmt: skip


def within_of(within: Any, grace: Any, call: str) -> Within:
    """As a join declares it.

    Raises:
        TopologyError: it is missing, or can be none.
    """
    if within is None:
        raise TopologyError(
            f"{call}: two streams are joined by time: say how far apart their records may be, as in "
            "within=timedelta(minutes=5), (before, after), or a Tumbling"
        )
    if grace is None:
        raise TopologyError(f"{call}: say how late records may come, as in grace=timedelta(seconds=10)")
    if isinstance(within, Tumbling):
        return Within(0, 0, whole_milliseconds(grace, f"{call}: grace="), within.size, within.offset)
    both = within if isinstance(within, tuple) else (within, within)
    if len(both) != 2 or not all(isinstance(one, timedelta) for one in both):
        raise TopologyError(
            f"{call}: within={within!r} is neither a timedelta, nor a pair of them, (before, after), nor a Tumbling"
        )
    for one in both:
        check_end(one, f"{call}: within=")
    if any(one % MS for one in both):
        raise TopologyError(f"{call}: within={within!r}: these are whole numbers of milliseconds")
    before, after = (one // MS for one in both)
    if before + after < 0:
        raise TopologyError(f"{call}: within={within!r} ends before it begins: no record is in it")
    return Within(before, after, whole_milliseconds(grace, f"{call}: grace="))
