"""The folds behind the aggregations that have a name: `sum`, `min`, `max`, `reduce`.

A fold takes the accumulator and a value and returns the accumulator; None stands for that of a key without values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from kstream.codecs import Codec, copier
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
    return lambda total, value: function(value) if total is None else total + function(value)


def least(function: Callable[[Any], Any]) -> Fold:
    def fold(so_far: Any, value: Any) -> Any:
        new = function(value)
        return new if so_far is None or new < so_far else so_far

    return fold


def greatest(function: Callable[[Any], Any]) -> Fold:
    def fold(so_far: Any, value: Any) -> Any:
        new = function(value)
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
