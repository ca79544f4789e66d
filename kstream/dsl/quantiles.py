"""Quantiles to a relative error: how many values lie in each of many ranges, each so much larger than the one before.

The ranges are those of DDSketch (Masson, Rim and Lee, VLDB 2019): above g^(i-1), up to g^i, where g is (1 + error) /
(1 - error). So what is told of a range is never further than the error from a value in it. What is kept hangs on the
values alone and not on their order: results are the same however the input was cut, after a crash, and for sessions
that are merged. docs/decisions/0022-sketches.md says why these are not the quantile sketches of DataSketches.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import accumulate
from reprlib import repr as _short
from typing import Any, Final

import msgspec

from kstream.errors import KStreamError, TopologyError

FINEST: Final = 0.001
COARSEST: Final = 0.2

MOST: Final = 4096
"""Ranges of a key. Where there would be more, each two become one, and the error about doubles (UDDSketch)."""


class Ranges(msgspec.Struct):
    """How many values there were.

    Attributes:
        least, greatest: of them.
        doubled: how often each two ranges were made one.
        zeros: how many were 0.
        above: how many in each range of those above 0.
        below: the same of those below 0, without their sign.
    """

    least: float
    greatest: float
    doubled: int = 0
    zeros: int = 0
    above: dict[int, int] = {}
    below: dict[int, int] = {}


def check_error(error: float) -> None:
    """Raises TopologyError where it is none."""
    if type(error) not in (int, float) or not FINEST <= error <= COARSEST:
        raise TopologyError(
            f"quantiles: error={error!r}: give it the share by which results may be off, from {FINEST} to {COARSEST}"
        )


def check_at(at: Sequence[float]) -> tuple[float, ...]:
    """Raises TopologyError where these are no quantiles."""
    given = () if isinstance(at, str | bytes | Set | Mapping) else at  # a set has no order
    try:
        asked = tuple(given)
    except TypeError:
        asked = ()
    if not asked or not all(type(one) in (int, float) and 0 <= one <= 1 for one in asked):
        raise TopologyError(f"quantiles: at={at!r}: give it a list of numbers from 0 to 1, as in [0.5, 0.99]")
    return asked


def rank_of(share: float, total: int) -> int:
    """Which of so many values in their order, from 1 on, is the first up to which this share of them lies."""
    return max(1, math.ceil(round(share * total, 6)))  # 0.07 of 100 is the seventh, and 0.07 * 100 a bit more than 7


def numbering(function: Callable[[Any], Any]) -> Callable[[Any], float]:
    """The function, where its results are numbers. Raises (the function) KStreamError where one is none."""

    def number(value: Any) -> float:
        found = function(value)
        made = (found if found.__class__ is float else _number(found)) + 0.0  # there is one 0
        if not math.isfinite(made):
            raise _no_place(found)
        return made

    return number


def telling_exactly(at: Sequence[float]) -> Callable[[list[float]], list[float]]:
    def told(values: list[float]) -> list[float]:
        ordered = sorted(values)
        return [ordered[rank_of(share, len(ordered)) - 1] for share in at]

    return told


def ranging(function: Callable[[Any], Any], error: float) -> Callable[[Ranges | None, Any], Ranges]:
    scale, log, ceil = 1 / math.log(_growth(error)), math.log, math.ceil

    def fold(ranges: Ranges | None, value: Any) -> Ranges:
        found = function(value)
        number = (found if found.__class__ is float else _number(found)) + 0.0  # there is one 0
        try:
            place = ceil(log(number if number > 0 else -number) * scale) if number else 0
        except (ValueError, OverflowError):
            raise _no_place(found) from None
        if ranges is None:
            ranges = Ranges(number, number)
        elif number < ranges.least:
            ranges.least = number
        elif number > ranges.greatest:
            ranges.greatest = number
        if not number:
            ranges.zeros += 1
            return ranges
        counts = ranges.above if number > 0 else ranges.below
        if ranges.doubled:
            place = -(-place >> ranges.doubled)
        count = counts.get(place)
        if count is not None:
            counts[place] = count + 1
            return ranges
        counts[place] = 1
        _bound(ranges)
        return ranges

    return fold


def _no_place(found: Any) -> KStreamError:
    return KStreamError(f"quantiles got {found!r}, which has no place among numbers: {_ADVICE}")


_ADVICE: Final = "filter such records out before it"


def _growth(error: float) -> float:
    return (1 + error) / (1 - error)


def _number(found: Any) -> float:
    """Raises KStreamError where it is no number, or one that no float can hold."""
    try:
        if not isinstance(found, str | bytes):
            return float(found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise KStreamError(f"quantiles got {_short(found)}, which is no number that a float can hold: {_ADVICE}")


def _bound(ranges: Ranges) -> None:
    while len(ranges.above) + len(ranges.below) > MOST:
        _widen(ranges, 1)


def _widen(ranges: Ranges, times: int) -> None:
    """Makes each 2^times ranges one."""
    ranges.above, ranges.below = _wider(ranges.above, times), _wider(ranges.below, times)
    ranges.doubled += times


def _wider(counts: dict[int, int], times: int) -> dict[int, int]:
    wider: dict[int, int] = {}
    for place, count in counts.items():
        place = -(-place >> times)
        wider[place] = wider.get(place, 0) + count
    return wider


def merged(one: Ranges, other: Ranges) -> Ranges:
    """Those of the values of both. `one` is changed."""
    if one.doubled < other.doubled:
        _widen(one, other.doubled - one.doubled)
    times = one.doubled - other.doubled
    for mine, theirs in ((one.above, other.above), (one.below, other.below)):
        for place, count in (_wider(theirs, times) if times else theirs).items():
            mine[place] = mine.get(place, 0) + count
    one.zeros += other.zeros
    one.least, one.greatest = min(one.least, other.least), max(one.greatest, other.greatest)
    _bound(one)
    return one


def telling(at: Sequence[float], error: float) -> Callable[[Ranges], list[float]]:
    """What is told: for each of `at` the value that this share of all is up to (SQL's PERCENTILE_DISC); for 0 the
    least."""

    def told(ranges: Ranges) -> list[float]:
        below, above = sorted(ranges.below, reverse=True), sorted(ranges.above)
        counts = [*map(ranges.below.__getitem__, below), ranges.zeros, *map(ranges.above.__getitem__, above)]
        reached, zero = list(accumulate(counts)), len(below)
        growth, total = _growth(error) ** (1 << ranges.doubled), reached[-1]
        results = []
        for share in at:
            rank = rank_of(share, total)
            if rank in (1, total):
                results.append(ranges.least if rank == 1 else ranges.greatest)
                continue
            place = bisect_left(reached, rank)
            value = 0.0
            if place != zero:
                value = -_value(below[place], growth) if place < zero else _value(above[place - zero - 1], growth)
            results.append(min(max(value, ranges.least), ranges.greatest))
        return results

    return told


def _value(place: int, growth: float) -> float:
    """What is as far from the least value of the range as from the greatest, relatively."""
    return growth ** (place - 1) * (2 * growth / (1 + growth))  # growth**place may be more than floats have
