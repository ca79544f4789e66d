"""Records grouped by key, each with a window of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import reduce
from operator import add
from typing import Any, ClassVar, Generic, TypeVar, cast

from kstream.codecs import Windowed, copier, windowed_codec
from kstream.codecs.base import is_codec
from kstream.dsl import folds, quantiles
from kstream.dsl.functions import check_called, check_takes
from kstream.dsl.graph import advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import FOLDS, STEPS, Hinted
from kstream.dsl.stream import Stream
from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema
from kstream.specs.sliding import Kept, Sliding
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic, check_topic
from kstream.topology import Node
from kstream.window_nodes import SlidingNode

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S", bound=folds.Summable)


class SlidingGroup(Hinted, Generic[K, V]):
    """Records grouped by key, to be aggregated each with those of the last while.

    All aggregations take `name=` (of the store and its changelog: keep it) and `backend=`. They give a stream: one
    result for each record, with its key and its time.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys((*STEPS, "to", "stream"), "aggregate it first: count(), sum(function), aggregate(...)"),
        **dict.fromkeys(
            (fold for fold in FOLDS if fold in ("first", "last", "collect", "top_n")),
            "sliding windows have count, sum, min, max, mean, count_distinct, quantiles, reduce and aggregate",
        ),
    }

    def __init__(
        self, records: Grouping, windows: Sliding, grace: timedelta, late: Topic[K, V] | None = None
    ) -> None:  # fmt: skip
        self._records, self._windows, self._late = records, windows, late
        self._grace = whole_milliseconds(grace, "window: grace=")
        if late is not None:
            check_topic(late, "window: late=")

    def node(self) -> Node:
        return self._records.node()

    def count(
        self, *, name: str | None = None, value: Kind[int] = int, backend: BackendKind | None = None
    ) -> Stream[K, int]:
        """How many records the window has: 1 at least."""
        return self._aggregate("count", lambda _: 0, len, int, value, name, backend)

    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, S]:  # fmt: skip
        """The sum of the function over the values of the window: numbers, or whatever can be added."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        added: Any = sum if kind in folds.NUMBERS else lambda values: reduce(add, values)
        return self._aggregate("sum", function, added, kind, kind, name, backend, function)

    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The least result of the function over the values of the window."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("min", folds.compared(function, "min"), min, kind, kind, name, backend, function)

    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The greatest result of the function over the values of the window."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("max", folds.compared(function, "max"), max, kind, kind, name, backend, function)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, backend: BackendKind | None = None
    ) -> Stream[K, float]:
        """The mean of the function over the values of the window, which gives numbers."""
        check_takes(function, 1)
        return self._aggregate("mean", function, _mean, returned_by(function), float, name, backend, function)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, int]:  # fmt: skip
        """How many different results the function has over the values of the window, exactly. None does not count.

        Args:
            of: the type of the results, where the function's annotation does not say.
        """
        check_called(function, "count_distinct", 1)
        codec = schema(of or returned_by(function), "the results of count_distinct", key=True).codec
        kept: Any = str | None
        return self._aggregate(
            "distinct", folds.as_text(function, codec), _different, kept, int, name, backend, function
        )

    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, list[float]]:  # fmt: skip
        """Quantiles of the function over the values of the window, exactly: for 0.5 the value that half of them are up
        to (SQL's PERCENTILE_DISC).

        Args:
            at: which ones, from 0 to 1. Results are in this order.
        """
        check_takes(function, 1)
        told = quantiles.telling_exactly(quantiles.check_at(at))
        return self._aggregate(
            "quantiles", quantiles.numbering(function), told, float, list[float], name, backend, function
        )

    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, V]:  # fmt: skip
        """Combines the values of the window two at a time, in the order of their times."""
        check_takes(function, 2)
        values = self.node().value
        copy = copier(values.codec)

        def combined(window: list[V]) -> V:
            result: V = reduce(function, map(copy, window))  # it may change what it is given
            return result

        return self._aggregate("reduce", _same, combined, values.kind, value or values.kind, name, backend, function)

    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], *, name: str | None = None,
        value: Kind[A] | None = None, backend: BackendKind | None = None,
    ) -> Stream[K, A]:  # fmt: skip
        """Folds the values of the window into an accumulator, in the order of their times.

        Args:
            initial: makes the accumulator of a window; a class serves as its type too.
            fold: takes accumulator and value and returns the accumulator, changed or new.
        """
        check_takes(initial, 0)
        check_takes(fold, 2)
        values = self.node().value
        copy, kind = copier(values.codec), value or returned_by(initial)
        if kind is UNKNOWN:
            kind = returned_by(fold)

        def folded(window: list[V]) -> A:
            return reduce(fold, map(copy, window), initial())

        return self._aggregate("aggregate", _same, folded, values.kind, kind, name, backend, fold, initial)

    def _aggregate(
        self,
        step: str,
        keep: Callable[[Any], Any],
        result: Callable[[list[Any]], Any],
        kept: Any,
        kind: Any,
        name: str | None,
        backend: BackendKind | None,
        *users: Callable[..., Any],
    ) -> Stream[Any, Any]:
        graph, source = self._records.graph, self.node()
        made = graph.aggregation(source, step, name, backend, users)
        what = f"what {step} {made!r} keeps"
        if is_codec(kept):
            raise TopologyError(f"{what}: records are kept as JSON, which {schema(kept, what)} is not: give it a type")
        part: Any = cast("Any", Kept)[Any if kept is UNKNOWN else kept]
        inner: Any = source.key.kind
        keys: Any = UNKNOWN if inner is UNKNOWN or is_codec(inner) else cast("Any", Windowed)[inner]
        spec = StoreSpec(
            made, Schema(keys, windowed_codec(source.key.codec, stored=True)), schema(part, what), backend=backend,
            windows=self._windows, layout=self._windows.layout,
        )  # fmt: skip
        graph.store(spec, step, advice(name))
        node = SlidingNode(
            name=made,
            parents=(source,),
            key=source.key,
            value=schema(kind, f"the result of {step} {made!r}"),
            stores=(spec,),
            users=users,
            initial=folds.nothing,
            keep=keep,
            kept=schema(kept, what),
            fold=result,
            wants_context=False,
            emit="update",
            windows=self._windows,
            grace=self._grace,
            late=self._late,
        )
        graph.add(node)
        return Stream(graph, node)


def _same(value: Any) -> Any:
    return value


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values))


def _different(texts: list[str | None]) -> int:
    return len({*texts} - {None})
