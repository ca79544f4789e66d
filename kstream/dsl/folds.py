"""The folds behind the aggregations that have a name: `sum`, `min`, `max`, `reduce`, `mean`, `top_n` and others.

A fold takes the accumulator and a value and returns the accumulator; None stands for that of a key without values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from kstream.codecs import BuiltIn, Codec, copier, encode_value
from kstream.errors import KStreamError
from kstream.specs.schema import UNKNOWN

Fold = Callable[[Any, Any], Any]


def nothing() -> None:
    """The accumulator of a key without values."""


def counting(total: int, _: Any) -> int:
    return total + 1


class Summable(Protocol):
    def __add__(self, other: Any, /) -> Any: ...


NUMBERS: Final = (int, float, UNKNOWN)
"""Types of which a sum begins with 0; that of others (Decimal, timedelta) begins with its first value."""


def summing(function: Callable[[Any], Any]) -> Fold:
    def fold(total: Any, value: Any) -> Any:
        found = function(value)
        if found is None:
            raise KStreamError("sum got None, which cannot be added: filter such records out before it")
        return found if total is None else total + found

    return fold


def comparable(found: Any, what: str) -> Any:
    """What others are compared with. What cannot be compared is refused when it comes: once kept it would stay for
    good, and the sound values behind it would be lost, or fail in its place.

    Raises:
        KStreamError: it is None, or not equal to itself (NaN), or a tuple or list that has such a one.
    """
    if found is None or found != found:
        raise KStreamError(f"{what} got {found!r}, which cannot be compared: filter such records out before it")
    if found.__class__ is tuple or found.__class__ is list:
        for one in found:
            comparable(one, what)
    return found


def compared(function: Callable[[Any], Any], what: str) -> Callable[[Any], Any]:
    """The function, where its results can be compared. Raises as `comparable`."""
    return lambda value: comparable(function(value), what)


def least(function: Callable[[Any], Any]) -> Fold:
    def fold(so_far: Any, value: Any) -> Any:
        new = comparable(function(value), "min")
        return new if so_far is None or new < so_far else so_far

    return fold


def greatest(function: Callable[[Any], Any]) -> Fold:
    def fold(so_far: Any, value: Any) -> Any:
        new = comparable(function(value), "max")
        return new if so_far is None or new > so_far else so_far

    return fold


def reducing(function: Callable[[Any, Any], Any], codec: Codec[Any]) -> Fold:
    """Combines values two at a time; the first is the first result. `codec` is that of the values."""
    copy = copier(codec)

    def fold(so_far: Any, value: Any) -> Any:
        result = value if so_far is None else function(so_far, value)
        # a value kept as the state may be changed later: others must not see that in the column it came in
        return copy(result) if result is value else result

    return fold


def collecting(codec: Codec[Any]) -> Fold:
    """All values, in the order in which they came. `codec` is that of the values."""
    copy = copier(codec)

    def fold(values: list[Any], value: Any) -> list[Any]:
        values.append(copy(value))
        return values

    return fold


def ranking(n: int, by: Callable[[Any], Any], codec: Codec[Any], *, least: bool) -> Fold:
    """The `n` values with the greatest `by` (the `least`), the first of them first; of equal ones those that came
    first."""
    copy = copier(codec)

    def fold(best: list[Any], value: Any) -> list[Any]:
        rank, place = comparable(by(value), "top_n's by="), len(best)
        while place and (by(best[place - 1]) > rank if least else by(best[place - 1]) < rank):
            place -= 1
        if place < n:
            best.insert(place, copy(value))
            del best[n:]
        return best

    return fold


class Mean(msgspec.Struct):
    """What a mean is made of."""

    total: int | float = 0
    count: int = 0


def averaging(function: Callable[[Any], Any]) -> Fold:
    def fold(mean: Mean, value: Any) -> Mean:
        total, count = mean.total + function(value), mean.count + 1
        try:  # here a record is at hand; when the mean is told there is none
            total / count
        except OverflowError:
            raise KStreamError("mean: the total is an integer that no float can hold") from None
        mean.total, mean.count = total, count
        return mean

    return fold


def averaged(mean: Mean) -> float:
    return mean.total / mean.count


def both_means(one: Mean, other: Mean) -> Mean:
    return Mean(one.total + other.total, one.count + other.count)


def distinguishing(function: Callable[[Any], Any], codec: Codec[Any]) -> Fold:
    """What the function gives, each once, as the text of its bytes: `codec` is that of a key, so equal ones are equal
    there. None is no value, as in SQL."""

    text = as_text(function, codec)

    def fold(seen: set[str], value: Any) -> set[str]:
        found = text(value)
        if found is not None:
            seen.add(found)
        return seen

    return fold


def as_text(function: Callable[[Any], Any], codec: Codec[Any]) -> Callable[[Any], str | None]:
    """The function's results as the text of their bytes; None stays None."""
    plain = codec.encode is str.encode

    def text(value: Any) -> str | None:
        found = function(value)
        if found is None:
            return None
        if plain and found.__class__ is str and found.isascii():  # the same, in a third of the time
            return found
        if found.__class__ is float:
            found += 0.0  # -0.0, which equals 0.0, would be written otherwise
        raw: bytes = encode_value(codec, found) or b""
        return raw.decode("latin-1")

    return text


def sketching(function: Callable[[Any], Any], codec: Codec[Any]) -> Fold:
    """What the function gives, by the same bytes, into a HyperLogLog (codecs/sketches.py). It takes text: what is text
    in these bytes is that text, as in Java's `update(String)`; other bytes are a letter each."""
    plain = codec.encode is str.encode
    encoding = "utf-8" if isinstance(codec, BuiltIn) and (plain or codec.json) else "latin-1"

    def fold(sketch: Any, value: Any) -> Any:
        found = function(value)
        if found is None:
            return sketch
        if plain and found.__class__ is str:
            sketch.add(found)
            return sketch
        if found.__class__ is float:
            found += 0.0
        raw: bytes = encode_value(codec, found) or b""
        sketch.add(raw.decode(encoding))
        return sketch

    return fold
