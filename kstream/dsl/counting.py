"""Records grouped by key, so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast, overload

from kstream.codecs.base import is_codec
from kstream.dsl import folds, keeping
from kstream.dsl.functions import check_takes, wants_context
from kstream.dsl.graph import advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import FOLDS, OF_WINDOWS, Hinted
from kstream.dsl.stream import Stream
from kstream.errors import TopologyError
from kstream.runtime.task.context import Context
from kstream.specs.counting import Counted, Counting
from kstream.specs.schema import UNKNOWN, Kind, returned_by, schema
from kstream.specs.steps import Step
from kstream.specs.store import BackendKind, StoreSpec
from kstream.topology import Node
from kstream.window_nodes import CountingNode

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S", bound=folds.Summable)


class CountingGroup(Hinted, Generic[K, V]):
    """Records grouped by key, to be aggregated so many at a time.

    All aggregations take `name=` (of the store and its changelog: keep it) and `backend=`. They give a stream: a result
    with each record that makes a window full, with its key and its time.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(OF_WINDOWS, "aggregate it first: sum(function), aggregate(...)"),
        **dict.fromkeys(
            (fold for fold in FOLDS if fold in ("count", "first", "last", "collect", "top_n")),
            "windows of so many records have sum, min, max, mean, count_distinct, quantiles, reduce and aggregate",
        ),
    }

    def __init__(self, records: Grouping, windows: Counting) -> None:
        self._records, self._windows = records, windows

    def node(self) -> Node:
        return self._records.node()

    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, S]:  # fmt: skip
        """The sum of the function over each window's values: numbers, or whatever can be added."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        initial = int if kind in folds.NUMBERS else folds.nothing
        return self._aggregate("sum", initial, folds.summing(function), kind, name, backend, function)

    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The least result of the function over each window's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("min", folds.nothing, folds.least(function), kind, name, backend, function)

    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, R]:  # fmt: skip
        """The greatest result of the function over each window's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("max", folds.nothing, folds.greatest(function), kind, name, backend, function)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, backend: BackendKind | None = None
    ) -> Stream[K, float]:
        """The mean of the function over each window's values, which gives numbers."""
        return self._keeping("mean", keeping.mean(function), function, name, backend)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, int]:  # fmt: skip
        """How many different results the function has over each window's values, exactly. None does not count.

        Args:
            of: the type of the results, where the function's annotation does not say.
        """
        return self._keeping("distinct", keeping.distinct(function, of, None), function, name, backend)

    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, error: float = 0.01, name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, list[float]]:  # fmt: skip
        """Quantiles of the function over each window's values, as in a group's `quantiles`."""
        return self._keeping("quantiles", keeping.quantile(function, at, error), function, name, backend)

    def _keeping(
        self, step: str, made: keeping.Keeping, function: Callable[..., Any], name: str | None,
        backend: BackendKind | None,
    ) -> Stream[Any, Any]:  # fmt: skip
        kept = self._aggregate(step, made.initial, made.fold, made.kept, name, backend, function, layout=made.layout)
        value = schema(made.kind, f"the result of {step} {kept.node.name!r}")
        graph = self._records.graph
        return Stream(graph, graph.step(kept.node, Step.MAP, made.result, None, value))

    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        backend: BackendKind | None = None,
    ) -> Stream[K, V]:  # fmt: skip
        """Combines each window's values two at a time; the first value is the first result."""
        check_takes(function, 2)
        values = self.node().value
        fold = folds.reducing(function, values.codec)
        return self._aggregate("reduce", folds.nothing, fold, value or values.kind, name, backend, function)

    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], *, name: str | None = None,
        value: Kind[A] | None = None, backend: BackendKind | None = None,
    ) -> Stream[K, A]: ...  # fmt: skip
    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V, Context[K]], A], *, name: str | None = None,
        value: Kind[A] | None = None, backend: BackendKind | None = None,
    ) -> Stream[K, A]: ...  # fmt: skip
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[..., A], *, name: str | None = None,
        value: Kind[A] | None = None, backend: BackendKind | None = None,
    ) -> Stream[K, A]:  # fmt: skip
        """Folds each window's values into an accumulator.

        Args:
            initial: makes the accumulator of a new window; a class serves as its type too.
            fold: takes accumulator and value (and the context, when it has a third parameter) and returns the
                accumulator, changed or new.
        """
        check_takes(initial, 0)
        kind = value or returned_by(initial)
        if kind is UNKNOWN:
            kind = returned_by(fold)
        return self._aggregate("aggregate", initial, fold, kind, name, backend, fold, initial)

    def _aggregate(
        self,
        step: str,
        initial: Callable[[], Any],
        fold: Callable[..., Any],
        kind: Any,
        name: str | None,
        backend: BackendKind | None,
        *users: Callable[..., Any],
        layout: str = "",
    ) -> Stream[Any, Any]:
        graph, source = self._records.graph, self.node()
        made = graph.aggregation(source, step, name, backend, users)
        what = f"the result of {step} {made!r}"
        value = schema(kind, what)
        if is_codec(kind):
            raise TopologyError(
                f"{what}: windows that are not full are kept as JSON, which {value} is not: give it a type"
            )
        counted: Any = cast("Any", Counted)[Any if kind is UNKNOWN else kind]
        spec = StoreSpec(made, source.key, schema(counted, what), backend=backend, layout=layout)
        graph.store(spec, step, advice(name))
        node = CountingNode(
            name=made,
            parents=(source,),
            key=source.key,
            value=value,
            stores=(spec,),
            users=users,
            initial=initial,
            fold=fold,
            wants_context=wants_context(fold, 2),
            emit="update",
            count=self._windows,
        )
        graph.add(node)
        return Stream(graph, node)
