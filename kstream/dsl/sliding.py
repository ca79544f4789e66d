"""Records grouped by key, each with a window of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, cast

from kstream.codecs import Windowed, windowed_codec
from kstream.codecs.base import is_codec
from kstream.dsl import folds, refolding
from kstream.dsl.graph import advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import FOLDS, OF_WINDOWS, Hinted
from kstream.dsl.stream import Stream
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Kind, Schema, schema
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
        **dict.fromkeys(OF_WINDOWS, "aggregate it first: count(), sum(function), aggregate(...)"),
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
        return self._aggregate(refolding.counting(value), name, backend)

    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, S]:  # fmt: skip
        """The sum of the function over the values of the window: numbers, or whatever can be added."""
        return self._aggregate(refolding.summing(function, value), name, backend)

    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The least result of the function over the values of the window."""
        return self._aggregate(refolding.least(function, value), name, backend)

    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The greatest result of the function over the values of the window."""
        return self._aggregate(refolding.greatest(function, value), name, backend)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, backend: BackendKind | None = None
    ) -> Stream[K, float]:
        """The mean of the function over the values of the window, which gives numbers."""
        return self._aggregate(refolding.averaging(function), name, backend)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, int]:  # fmt: skip
        """How many different results the function has over the values of the window, exactly. None does not count.

        Args:
            of: the type of the results, where the function's annotation does not say.
        """
        return self._aggregate(refolding.distinguishing(function, of), name, backend)

    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, list[float]]:  # fmt: skip
        """Quantiles of the function over the values of the window, exactly: for 0.5 the value that half of them are up
        to (SQL's PERCENTILE_DISC).

        Args:
            at: which ones, from 0 to 1. Results are in this order.
        """
        return self._aggregate(refolding.ranking(function, at), name, backend)

    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, V]:  # fmt: skip
        """Combines the values of the window two at a time, in the order of their times."""
        return self._aggregate(refolding.reducing(function, value, self.node().value), name, backend)

    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], *, name: str | None = None,
        value: Kind[A] | None = None, backend: BackendKind | None = None,
    ) -> Stream[K, A]:  # fmt: skip
        """Folds the values of the window into an accumulator, in the order of their times.

        Args:
            initial: makes the accumulator of a window; a class serves as its type too.
            fold: takes accumulator and value and returns the accumulator, changed or new.
        """
        return self._aggregate(refolding.folding(initial, fold, value, self.node().value), name, backend)

    def _aggregate(
        self, folding: refolding.Folding, name: str | None, backend: BackendKind | None
    ) -> Stream[Any, Any]:  # fmt: skip
        graph, source, step = self._records.graph, self.node(), folding.step
        made = graph.aggregation(source, step, name, backend, folding.users)
        inner: Any = source.key.kind
        keys: Any = UNKNOWN if inner is UNKNOWN or is_codec(inner) else cast("Any", Windowed)[inner]
        spec = StoreSpec(
            made, Schema(keys, windowed_codec(source.key.codec, stored=True)), folding.schema_of(Kept, made),
            backend=backend, holds="windows", layout=self._windows.layout,
        )  # fmt: skip
        graph.store(spec, step, advice(name))
        node = SlidingNode(
            name=made,
            parents=(source,),
            key=source.key,
            value=schema(folding.kind, f"the result of {step} {made!r}"),
            stores=(spec,),
            users=folding.users,
            initial=folds.nothing,
            keep=folding.keep,
            kept=folding.schema_of_kept(made),
            fold=folding.result,
            wants_context=False,
            emit="update",
            windows=self._windows,
            grace=self._grace,
            late=self._late,
        )
        graph.add(node)
        return Stream(graph, node)
