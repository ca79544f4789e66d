"""Records grouped by key and by which are near each other: Kafka Streams' sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, cast

from kstream.codecs import Windowed, windowed_codec
from kstream.codecs.base import is_codec
from kstream.dsl import folds, refolding
from kstream.dsl.graph import advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import OF_WINDOWS, Hinted
from kstream.dsl.stream import Stream
from kstream.dsl.windowed import check_emit_of_windows
from kstream.specs.fields import whole_milliseconds
from kstream.specs.kafka_sliding import KafkaSliding, Recent
from kstream.specs.schema import UNKNOWN, Kind, Schema, schema
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic, check_topic
from kstream.topology import Emit, Node
from kstream.window_nodes import KafkaSlidingNode

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S", bound=folds.Summable)


class KafkaSlidingGroup(Hinted, Generic[K, V]):
    """Records grouped by key, ready to be aggregated over the windows of those that are near each other.

    All aggregations take `name=` (of the store and its changelog: keep it), `emit=` and `backend=`. They give a stream
    of results with keys of the type `kstream.Windowed`. `emit="update"` writes the new result of each window that a
    record changes, "commit" once per changed window and commit, "close" once per window, when it closes. Values of a
    window are folded in the order of their times, those of one time in that in which they came.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = dict.fromkeys(
        OF_WINDOWS, "aggregate it first: count(), sum(function), aggregate(...)"
    )

    def __init__(
        self, records: Grouping, windows: KafkaSliding, grace: timedelta, late: Topic[K, V] | None = None
    ) -> None:  # fmt: skip
        self._records, self._windows, self._late = records, windows, late
        self._grace = whole_milliseconds(grace, "window: grace=")
        if late is not None:
            check_topic(late, "window: late=")

    def node(self) -> Node:
        return self._records.node()

    def count(
        self, *, name: str | None = None, value: Kind[int] = int, emit: Emit = "update",
        backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], int]:  # fmt: skip
        """How many records each window has: 1 at least."""
        return self._aggregate(refolding.counting(value), name, emit, backend)

    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], S]:  # fmt: skip
        """The sum of the function over each window's values: numbers, or whatever can be added."""
        return self._aggregate(refolding.summing(function, value), name, emit, backend)

    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], R]:  # fmt: skip
        """The least result of the function over each window's values."""
        return self._aggregate(refolding.least(function, value), name, emit, backend)

    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], R]:  # fmt: skip
        """The greatest result of the function over each window's values."""
        return self._aggregate(refolding.greatest(function, value), name, emit, backend)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: Emit = "update",
        backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], float]:  # fmt: skip
        """The mean of the function over each window's values, which gives numbers."""
        return self._aggregate(refolding.averaging(function), name, emit, backend)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, name: str | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], int]:  # fmt: skip
        """How many different results the function has over each window's values, exactly. None does not count.

        Args:
            of: the type of the results, where the function's annotation does not say.
        """
        return self._aggregate(refolding.distinguishing(function, of), name, emit, backend)

    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, name: str | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], list[float]]:  # fmt: skip
        """Quantiles of the function over each window's values, exactly: for 0.5 the value that half of them are up to
        (SQL's PERCENTILE_DISC).

        Args:
            at: which ones, from 0 to 1. Results are in this order.
        """
        return self._aggregate(refolding.ranking(function, at), name, emit, backend)

    def first(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None
    ) -> Stream[Windowed[K], V]:
        """Each window's first value, by time."""
        return self._aggregate(refolding.first(self.node().value), name, emit, backend)

    def last(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None
    ) -> Stream[Windowed[K], V]:
        """Each window's last value, by time."""
        return self._aggregate(refolding.last(self.node().value), name, emit, backend)

    def collect(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None
    ) -> Stream[Windowed[K], list[V]]:
        """All values of each window."""
        return self._aggregate(refolding.collecting(self.node().value), name, emit, backend)

    def top_n(
        self, n: int, *, by: Callable[[V], Any], least: bool = False, name: str | None = None, emit: Emit = "update",
        backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], list[V]]:  # fmt: skip
        """The `n` values of each window that are greatest, the first of them first; of equal ones the earlier ones.

        Args:
            by: what of a value is compared.
            least: those that are least.

        Raises:
            TopologyError: `n` is no such number.
        """
        return self._aggregate(refolding.choosing(n, by, self.node().value, least=least), name, emit, backend)

    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], V]:  # fmt: skip
        """Combines each window's values two at a time."""
        return self._aggregate(refolding.reducing(function, value, self.node().value), name, emit, backend)

    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], *, name: str | None = None,
        value: Kind[A] | None = None, emit: Emit = "update", backend: BackendKind | None = None,
    ) -> Stream[Windowed[K], A]:  # fmt: skip
        """Folds each window's values into an accumulator, all of them whenever its result is told: nothing else than
        the values is kept.

        Args:
            initial: makes the accumulator of a window; a class serves as its type too.
            fold: takes accumulator and value and returns the accumulator, changed or new.
        """
        return self._aggregate(refolding.folding(initial, fold, value, self.node().value), name, emit, backend)

    def _aggregate(
        self, folding: refolding.Folding, name: str | None, emit: Emit, backend: BackendKind | None
    ) -> Stream[Any, Any]:  # fmt: skip
        check_emit_of_windows(emit)
        graph, source, step, windows = self._records.graph, self.node(), folding.step, self._windows
        made = graph.aggregation(source, step, name, backend, folding.users)
        spec = StoreSpec(
            made, source.key, folding.schema_of(Recent, made), backend=backend, holds="recent",
            layout=windows.layout,
        )  # fmt: skip
        graph.store(spec, step, advice(name))
        inner: Any = source.key.kind
        keys: Any = UNKNOWN if inner is UNKNOWN or is_codec(inner) else cast("Any", Windowed)[inner]
        node = KafkaSlidingNode(
            name=made,
            parents=(source,),
            key=Schema(keys, windowed_codec(source.key.codec, stored=True)),
            value=schema(folding.kind, f"the result of {step} {made!r}"),
            stores=(spec,),
            users=folding.users,
            initial=folds.nothing,
            keep=folding.keep,
            kept=folding.schema_of_kept(made),
            fold=folding.result,
            wants_context=False,
            emit=emit,
            windows=windows,
            grace=self._grace,
            late=self._late,
        )
        graph.add(node)
        return Stream(graph, node)
