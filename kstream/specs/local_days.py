"""Days of a time zone, as windows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds
from kstream.specs.windows import Windows

DAY: Final = 86_400_000
MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1)
_FIRST: Final = (datetime(1800, 1, 1) - _EPOCH) // MS
_LAST: Final = (datetime(2400, 1, 1) - _EPOCH) // MS
"""Local times (ms) between which the clocks of a zone are known. Before and behind they stand as they do there."""


@lru_cache
def zone_named(name: object) -> ZoneInfo:
    """A zone of the package `tzdata`, whose version is pinned where the app's are: on every machine it has the same
    days, so a window is the same wherever its records are processed again.

    Raises:
        TopologyError: there is none of this name.
    """
    if name not in (known := _names()):
        near = get_close_matches(str(name), known, 1)
        advice = f": is it {near[0]!r}?" if near else ", such as 'Europe/Berlin'"
        raise TopologyError(f"LocalDays: {name!r} is not the name of a time zone{advice}")
    return ZoneInfo.from_file(BytesIO(_rules(str(name))), key=str(name))


def is_same_zone(one: str, other: str) -> bool:
    """Whether these are two names of one zone: what `tzdata` has of both is the same."""
    known = _names()
    return one in known and other in known and _rules(one) == _rules(other)


def _names() -> list[str]:
    return files("tzdata").joinpath("zones").read_text().split()


def _rules(zone: str) -> bytes:
    return files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()


class _Calendar:
    """When the days of a zone begin, in ms since the epoch.

    Args:
        length: of a window, in ms on the zone's calendar: whole days.
        offset: at what time of theirs windows begin, in ms after midnight of 1970-01-01 on that calendar.
    """

    def __init__(self, zone: ZoneInfo, length: int, offset: int) -> None:
        self._zone, self._length, self._offset = zone, length, offset
        self._begins: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """When the window of this number begins: when clocks show its time first, or, where they skip it, something
        behind it. (That is atStartOfDay of java.time.)"""
        found = self._begins.get(number)
        if found is None:
            if len(self._begins) > 10_000:
                self._begins.clear()
            found = self._begins[number] = self._instant(number * self._length + self._offset)
        return found

    def number(self, at: int) -> int:
        """Of the window with this time in it."""
        clamped = min(max(at, _FIRST + DAY), _LAST - DAY)  # by an offset that is a day at most
        shown = datetime.fromtimestamp(clamped // 1000, self._zone).utcoffset()
        assert shown is not None
        number = (at + shown // MS - self._offset) // self._length
        while self.begin(number) > at:
            number -= 1
        while self.begin(number + 1) <= at:
            number += 1
        return number

    def _instant(self, local: int) -> int:
        """Of a time (ms) that clocks of the zone show."""
        shown = _EPOCH + min(max(local, _FIRST), _LAST) * MS
        before = shown.replace(tzinfo=self._zone).utcoffset()
        behind = shown.replace(tzinfo=self._zone, fold=1).utcoffset()
        assert before is not None and behind is not None
        if behind <= before:  # it is shown, perhaps twice: the first time counts
            return local - before // MS
        # It is skipped. The clocks jump somewhere between these two, at a whole second.
        first, last = ((local - one // MS) // 1000 for one in (behind, before))
        jump = bisect_left(
            range(first, last), 1, key=lambda at: datetime.fromtimestamp(at, self._zone).utcoffset() == behind
        )
        return (first + jump) * 1000


@dataclass(frozen=True, slots=True, init=False)
class LocalDays(Windows):
    """Days of a time zone, one behind the other: of 24 hours, and where its clocks change, of 23 or 25 or what there
    is. A day begins when clocks there show midnight first, or, where they skip midnight, the first time behind it (as
    java.time's atStartOfDay). Results have keys of the type `kstream.WindowedSpan`.

    Zones are those of the package `tzdata`. Where a new version of it has other days for times to come, windows that
    are open then end where the new ones do.

    Args:
        zone: its name, such as "Europe/Berlin".
        days: how many of them are a window; counted from 1970-01-01, a Thursday.
        offset: windows begin so much later on the zone's clocks and calendar: `timedelta(hours=6)` has days from six
            to six; `days=7, offset=timedelta(days=4)` has weeks from Monday on.

    Attributes:
        size, advance: of a window, in ms on the zone's calendar: it may be an hour more or less by the clock.

    Raises:
        TopologyError: there is no such zone, or there can be no such windows.
    """

    zone: str
    calendar: _Calendar = field(repr=False, compare=False)

    spans: ClassVar[bool] = True

    def __init__(self, zone: str, *, days: int = 1, offset: timedelta = timedelta(0)) -> None:
        if type(days) is not int or not 1 <= days <= 36_500:
            raise TopologyError(f"LocalDays: days={days!r} is no whole number from 1 to 36500")
        begins = whole_milliseconds(offset, "LocalDays: offset=", least=None)
        Windows.__init__(self, days * DAY, days * DAY, begins)
        object.__setattr__(self, "zone", zone)
        object.__setattr__(self, "calendar", _Calendar(zone_named(zone), days * DAY, begins))

    @property
    def apart(self) -> bool:
        return True

    def last_start(self, at: int) -> int:
        return self.calendar.begin(self.calendar.number(at))

    def end_of(self, start: int) -> int:
        return self.calendar.begin(self.calendar.number(start) + 1)

    def open_from(self, at: int) -> int:
        return self.last_start(at)

    def starts(self, at: int) -> list[int]:
        return [self.last_start(at)]

    def starts_of(self, times: Sequence[int]) -> list[int]:
        found: list[int] = []
        start = end = 0
        for at in times:
            if not start <= at < end:
                start = self.last_start(at)
                end = self.end_of(start)
            found.append(start)
        return found

    def span(self, start: int) -> tuple[int, int]:
        return start, self.end_of(start) - 1

    def place(self, start: int, end: int) -> int:
        return start

    @property
    def layout(self) -> str:
        return f"windows of {self.size // DAY} days of {self.zone}{self._from(self.size)}"

    def __str__(self) -> str:
        moved = f" from {timedelta(milliseconds=self.offset)}" if self.offset else ""
        days = self.size // DAY
        return f"{'days' if days == 1 else f'{days} days'} of {self.zone}{moved}"
