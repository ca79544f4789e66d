"""Aggregations that keep the records of a window, and fold them when a result is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from kstream.codecs import copier, is_codec
from kstream.dsl import folds, quantiles
from kstream.dsl.functions import check_called, check_takes
from kstream.dsl.summaries import list_of
from kstream.errors import TopologyError
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema


class Folding(NamedTuple):
    """How such an aggregation is made.

    Attributes:
        step: what it is called.
        keep: makes of a value what is kept of it, of the type `kept`.
        result: takes the list of these, in the order of their times, and returns the result, of the type `kind`.
        users: functions of the user.
    """

    step: str
    keep: Callable[[Any], Any]
    result: Callable[[list[Any]], Any]
    kept: Any
    kind: Any
    users: tuple[Callable[..., Any], ...] = ()

    def schema_of(self, struct: Any, name: str) -> Schema:
        """The schema of what the store has of a key: of this struct, whose values are the records'.

        Args:
            name: of the store.

        Raises:
            TopologyError: the values have a codec of the user's.
        """
        what = f"what {self.step} {name!r} keeps"
        if is_codec(self.kept):
            raise TopologyError(
                f"{what}: records are kept as JSON, which {schema(self.kept, what)} is not: give it a type"
            )
        return schema(struct[Any if self.kept is UNKNOWN else self.kept], what)

    def schema_of_kept(self, name: str) -> Schema:
        return schema(self.kept, f"what {self.step} {name!r} keeps")


def counting(value: Kind[int]) -> Folding:
    return Folding("count", lambda _: 0, len, int, value)


def summing(function: Callable[[Any], Any], value: Any) -> Folding:
    check_takes(function, 1)
    kind = value or returned_by(function)
    added: Any = sum if kind in folds.NUMBERS else lambda values: reduce(add, values)
    return Folding("sum", function, added, kind, kind, (function,))


def least(function: Callable[[Any], Any], value: Any) -> Folding:
    check_takes(function, 1)
    kind = value or returned_by(function)
    return Folding("min", folds.compared(function, "min"), min, kind, kind, (function,))


def greatest(function: Callable[[Any], Any], value: Any) -> Folding:
    check_takes(function, 1)
    kind = value or returned_by(function)
    return Folding("max", folds.compared(function, "max"), max, kind, kind, (function,))


def averaging(function: Callable[[Any], Any]) -> Folding:
    check_takes(function, 1)
    return Folding("mean", function, _mean, returned_by(function), float, (function,))


def distinguishing(function: Callable[[Any], Any], of: Any) -> Folding:
    check_called(function, "count_distinct", 1)
    codec = schema(of or returned_by(function), "the results of count_distinct", key=True).codec
    kept: Any = str | None
    return Folding("distinct", folds.as_text(function, codec), _different, kept, int, (function,))


def ranking(function: Callable[[Any], float], at: Sequence[float]) -> Folding:
    check_takes(function, 1)
    told = quantiles.telling_exactly(quantiles.check_at(at))
    return Folding("quantiles", quantiles.numbering(function), told, float, list[float], (function,))


def reducing(function: Callable[[Any, Any], Any], value: Any, values: Schema) -> Folding:
    """`values`: those of the records."""
    check_takes(function, 2)
    copy = copier(values.codec)

    def combined(window: list[Any]) -> Any:
        return reduce(function, map(copy, window))  # it may change what it is given

    return Folding("reduce", _same, combined, values.kind, value or values.kind, (function,))


def folding(initial: Callable[[], Any], fold: Callable[[Any, Any], Any], value: Any, values: Schema) -> Folding:
    check_takes(initial, 0)
    check_takes(fold, 2)
    copy, kind = copier(values.codec), value or returned_by(initial)
    if kind is UNKNOWN:
        kind = returned_by(fold)

    def folded(window: list[Any]) -> Any:
        return reduce(fold, map(copy, window), initial())

    return Folding("aggregate", _same, folded, values.kind, kind, (fold, initial))


def first(values: Schema) -> Folding:
    return Folding("first", _same, lambda window: window[0], values.kind, values.kind)


def last(values: Schema) -> Folding:
    return Folding("last", _same, lambda window: window[-1], values.kind, values.kind)


def collecting(values: Schema) -> Folding:
    return Folding("collect", _same, _same, values.kind, list_of(values, "collect"))


def choosing(n: int, by: Callable[[Any], Any], values: Schema, *, least: bool) -> Folding:
    """Raises TopologyError where `n` is no such number."""
    if type(n) is not int or n < 1:
        raise TopologyError(f"top_n: n={n!r} is no whole number, 1 at least")
    check_called(by, "top_n", 1)

    def checked(value: Any) -> Any:
        folds.comparable(by(value), "top_n's by=")
        return value

    def best(window: list[Any]) -> list[Any]:
        return sorted(window, key=by, reverse=not least)[:n]  # which leaves equal ones in their order

    return Folding("top", checked, best, values.kind, list_of(values, "top_n"), (by,))


def _same(value: Any) -> Any:
    return value


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values))


def _different(texts: list[str | None]) -> int:
    return len({*texts} - {None})
