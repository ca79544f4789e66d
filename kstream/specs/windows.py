"""Windows of time, as they are declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds

MOST_OF_A_RECORD = 10_000
"""Windows that a record may be in: it changes an entry in each of them, which is some 50 ms of work then."""


def length_of(size: timedelta | None, parts: dict[str, float], what: str, called: str = "size") -> int:
    """In ms: a timedelta, or its parts. Raises TopologyError where it is neither, or both."""
    if (size is None) == (not any(parts.values())):
        raise TopologyError(f"{what}: give it a {called}, as a timedelta or in days=, hours=, minutes=, seconds=")
    try:
        found = timedelta(**parts) if size is None else size
    except (TypeError, ValueError, OverflowError) as error:
        raise TopologyError(f"{what}: {error}") from None
    return whole_milliseconds(found, f"{what}: {called}=", least=1)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one size that begin at regular times.

    Attributes:
        size, advance: how long a window is, and how long after the one before it each begins, in ms.
        offset: when one of them begins, in ms since the epoch.
    """

    size: int
    advance: int
    offset: int

    spans: ClassVar[bool] = False
    """Whether their results have keys of the type `WindowedSpan`."""

    @property
    def apart(self) -> bool:
        """Whether a time is in one window only."""
        return self.advance == self.size

    def last_start(self, at: int) -> int:
        """When the latest window begins that has this time (ms) in it: it begins then at the latest, and its end is
        not in it."""
        return at - (at - self.offset) % self.advance

    def end_of(self, start: int) -> int:
        """When the window ends that begins then. The end is not in it."""
        return start + self.size

    def open_from(self, at: int) -> int:
        """Windows that begin before have ended at this time, the others have not."""
        ended = at - self.size
        return ended - (ended - self.offset) % self.advance + self.advance

    def starts_of(self, times: Sequence[int]) -> list[int]:
        """When the window of each of these times begins, where a time is in one only."""
        offset, size = self.offset, self.size
        return [at - (at - offset) % size for at in times]

    def starts(self, at: int) -> list[int]:
        """When the windows begin that have this time in them, the earliest first."""
        last = self.last_start(at)
        return list(range(last - (self.size - 1 - (at - last)) // self.advance * self.advance, last + 1, self.advance))

    def starts_after(self, bound: int, times: Sequence[int]) -> list[list[int]]:
        """The same of each time, without those that begin at `bound` (ms) or before."""
        if self.size % self.advance:
            return [[start for start in self.starts(at) if start > bound] for at in times]
        advance, offset = self.advance, self.offset
        lasts = [at - (at - offset) % advance for at in times]  # each begins the same windows, and is among few
        found = {last: [start for start in self.starts(last) if start > bound] for last in set(lasts)}
        return [found[last] for last in lasts]

    @property
    def layout(self) -> str:
        """What its store is laid out by."""
        every = "" if self.advance == self.size else f" every {timedelta(milliseconds=self.advance)}"
        return f"windows of {timedelta(milliseconds=self.size)}{every}{self._from(self.advance)}"

    def _from(self, length: int) -> str:
        begins = self.offset % length
        return f" from {timedelta(milliseconds=begins)}" if begins else ""

    def __str__(self) -> str:
        every = "" if self.advance == self.size else f" every {timedelta(milliseconds=self.advance)}"
        return f"{type(self).__name__.lower()} {timedelta(milliseconds=self.size)}{every}"


class Tumbling(Windows):
    """Windows one behind the other: each record is in one of them. (Flink's TUMBLE, Kafka Streams' TimeWindows.)

    Args:
        size: how long a window is, as a timedelta; or in `days`, `hours`, `minutes`, `seconds`, which are added up.
        offset: they begin so much after the whole multiples of their size since the epoch. (Days of a time zone are
            `kstream.LocalDays`.)

    Raises:
        TopologyError: there can be no such windows.
    """

    __slots__ = ()

    def __init__(
        self, size: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0, offset: timedelta = timedelta(0),
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        length = length_of(size, parts, "Tumbling")
        super().__init__(length, length, _offset(offset, "Tumbling"))


class Hopping(Windows):
    """Windows that overlap: each begins `every` so long after the one before it, so a record is in several. (Flink's
    HOP, Kafka Streams' TimeWindows with advanceBy.) Those that begin before the epoch are windows like others.

    Args:
        size, days, hours, minutes, seconds, offset: as those of `Tumbling`.
        every: how long after a window the next one begins; at most `size`, or records would be in none.

    Raises:
        TopologyError: there can be no such windows.
    """

    __slots__ = ()

    def __init__(
        self, size: timedelta | None = None, *, every: timedelta, days: float = 0, hours: float = 0,
        minutes: float = 0, seconds: float = 0, offset: timedelta = timedelta(0),
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        length = length_of(size, parts, "Hopping")
        advance = whole_milliseconds(every, "Hopping: every=", least=1)
        if advance > length:
            raise TopologyError(
                f"Hopping: every={every!r} is longer than a window, so records between them would be in none"
            )
        _check_most(-(-length // advance), "Hopping", "a longer every=, or kstream.Sliding")
        super().__init__(length, advance, _offset(offset, "Hopping"))


@dataclass(frozen=True, slots=True, init=False)
class Cumulating(Windows):
    """Windows that begin together and end one `step` after the other, until the next ones begin: what has come since
    midnight, told each hour. (Flink's CUMULATE.)

    A window is known by its last step, in which no other window ends: `size` and `advance` are the step's, and what
    is called its start elsewhere is the start of that step.

    Args:
        size, days, hours, minutes, seconds: of the longest of them.
        step: the length of the shortest, and by how much each is longer than the one before. `size` is a whole
            multiple of it.
        offset: as that of `Tumbling`.

    Attributes:
        longest: in ms.

    Raises:
        TopologyError: there can be no such windows.
    """

    longest: int

    spans: ClassVar[bool] = True

    def __init__(
        self, size: timedelta | None = None, *, step: timedelta, days: float = 0, hours: float = 0,
        minutes: float = 0, seconds: float = 0, offset: timedelta = timedelta(0),
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        longest = length_of(size, parts, "Cumulating")
        length = whole_milliseconds(step, "Cumulating: step=", least=1)
        if longest % length:
            raise TopologyError(
                f"Cumulating: the longest window, {timedelta(milliseconds=longest)}, is no whole multiple of "
                f"step={step!r}: the last step would end with the next windows' first"
            )
        _check_most(longest // length, "Cumulating", "a longer step=")
        Windows.__init__(self, length, length, _offset(offset, "Cumulating"))
        object.__setattr__(self, "longest", longest)

    @property
    def apart(self) -> bool:
        return self.longest == self.size

    def begin(self, at: int) -> int:
        """When the windows begin that have this time (ms) in them."""
        return at - (at - self.offset) % self.longest

    def span(self, start: int) -> tuple[int, int]:
        """The first and the last ms of a window, by the start of its last step."""
        return self.begin(start), start + self.size - 1

    def place(self, start: int, end: int) -> int:
        """The start of the last step of a window, by its first and last ms."""
        return end + 1 - self.size

    def last_start(self, at: int) -> int:
        return self.begin(at) + self.longest - self.size

    def starts(self, at: int) -> list[int]:
        return list(range(at - (at - self.offset) % self.size, self.last_start(at) + 1, self.size))

    def starts_after(self, bound: int, times: Sequence[int]) -> list[list[int]]:
        step, offset = self.size, self.offset
        firsts = [at - (at - offset) % step for at in times]  # each is in the same windows, and is among few
        found = {first: [start for start in self.starts(first) if start > bound] for first in set(firsts)}
        return [found[first] for first in firsts]

    @property
    def layout(self) -> str:
        return f"windows {self}{self._from(self.longest)}"

    def __str__(self) -> str:
        return f"cumulating {timedelta(milliseconds=self.longest)} by {timedelta(milliseconds=self.size)}"


def _offset(offset: Any, what: str) -> int:
    return whole_milliseconds(offset, f"{what}: offset=", least=None)


def _check_most(count: int, what: str, advice: str) -> None:
    """Raises TopologyError where a record would be in so many windows that each would take too long."""
    if count > MOST_OF_A_RECORD:
        raise TopologyError(
            f"{what}: each record would be in {count} windows, each with an entry of its own: take {advice} "
            f"({MOST_OF_A_RECORD} windows at most)"
        )


def check_windows(windows: Any) -> Windows:
    """Raises TopologyError when these are none."""
    if not isinstance(windows, Windows):
        raise TopologyError(f"window takes windows, such as kstream.Tumbling(minutes=1), not {windows!r}")
    return windows
