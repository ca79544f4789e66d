"""When the records of an input came: not what their producers say, who may stamp them as they like, but how far the log
went when somebody looked.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

LOOK_SECONDS: Final = 0.5
"""How often somebody looks."""
KEPT: Final = 64
"""Looks that are kept of an input; where there are more, those in the middle grow sparse."""


@dataclass(slots=True)
class _Look:
    """The log ended at `end` from `first` until `last` (monotonic), as far as is known."""

    end: int
    first: float
    last: float


class Arrivals:
    """Of one input partition."""

    __slots__ = ("_before", "_looks")

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._before = 0  # records before this offset were there at the first look

    def heard(self, end: int, now: float, position: int, committed: int) -> None:
        """The log ends at `end`. Looks that nobody asks for any more, those before `committed`, are forgotten.

        Args:
            position: where it is read next. While something waits nothing is fetched at times, and the end that is
                known may be an old one: only where nothing waits it is known to hold still.
        """
        looks = self._looks
        if not looks or end < looks[-1].end:  # a log that has become shorter is another one
            looks.clear()
            looks.append(_Look(end, now, now))
            self._before = end
            return
        if end > looks[-1].end:
            looks.append(_Look(end, now, now))
        elif position >= end:
            looks[-1].last = now
        while len(looks) > 1 and looks[1].end <= committed:
            looks.popleft()
        if len(looks) > KEPT:
            self._looks = deque(look for index, look in enumerate(looks) if index % 2 == 0 or look is looks[-1])

    def waits(self, position: int, now: float) -> float:
        """For how many seconds at least the record at `position` has lain there; 0 where there is none yet."""
        return next((now - look.first for look in self._looks if look.end > position), 0.0)

    def were_there(self, position: int) -> bool:
        """Whether the record at `position` lay there when the first look was taken: since when is not known."""
        return position < self._before or not self._looks

    def within(self, offset: int, now: float) -> float | None:
        """For how many seconds at most records from `offset` on may have lain there; None where they were there
        before."""
        found = None
        for look in self._looks:
            if look.end > offset:
                break
            found = now - look.last
        return found
