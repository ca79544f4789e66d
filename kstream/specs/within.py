"""How far apart in time records of two streams may be that are joined, as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds

Apart: TypeAlias = timedelta | tuple[timedelta, timedelta]
"""Either way, or before and after."""

MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Within:
    """A record of the right stream is joined with one of the left whose time is `at` where its own is from
    `at - before` to `at + after`, both included. All in ms; one of them may be below 0.

    Attributes:
        grace: by how much records may come later than the time of their task.
    """

    before: int
    after: int
    grace: int

    @property
    def left_open(self) -> int:
        """So long after its time a record of the left may be found."""
        return max(self.after, 0) + self.grace

    @property
    def right_open(self) -> int:
        """So long after its time a record of the right may be found."""
        return max(self.before, 0) + self.grace

    @property
    def bucket(self) -> int:
        """How long the buckets are in which records are kept: a look-up is in three of them at most."""
        return max(1, -(-(self.before + self.after) // 2))

    def __str__(self) -> str:
        before, after, grace = (timedelta(milliseconds=one) for one in (self.before, self.after, self.grace))
        return f"{before} before to {after} after, grace={grace}"


def within_of(within: Any, grace: Any, call: str) -> Within:
    """As a join declares it.

    Raises:
        TopologyError: it is missing, or can be none.
    """
    if within is None:
        raise TopologyError(
            f"{call}: two streams are joined by time: say how far apart their records may be, as in "
            "within=timedelta(minutes=5), or (before, after)"
        )
    if grace is None:
        raise TopologyError(f"{call}: say how late records may come, as in grace=timedelta(seconds=10)")
    both = within if isinstance(within, tuple) else (within, within)
    if len(both) != 2 or not all(isinstance(one, timedelta) for one in both):
        raise TopologyError(f"{call}: within={within!r} is neither a timedelta nor a pair of them, (before, after)")
    if any(one % MS for one in both):
        raise TopologyError(f"{call}: within={within!r}: these are whole numbers of milliseconds")
    before, after = (one // MS for one in both)
    if before + after < 0:
        raise TopologyError(f"{call}: within={within!r} ends before it begins: no record is in it")
    return Within(before, after, whole_milliseconds(grace, f"{call}: grace="))
