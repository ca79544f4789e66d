"""Aggregations of a group that have a name, besides those of stream.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kstream.codecs import is_codec
from kstream.dsl import folds, keeping
from kstream.dsl.functions import check_called
from kstream.errors import TopologyError
from kstream.specs.schema import UNKNOWN, Kind, Schema, schema
from kstream.specs.store import BackendKind
from kstream.topology import Emit, Node

if TYPE_CHECKING:
    from kstream.dsl.resulting import ResultTable
    from kstream.dsl.stream import AggregateTable
    from kstream.specs.ttl import TTL

K = TypeVar("K")
V = TypeVar("V")


class Summaries(Generic[K, V]):
    """The part of a group that knows them."""

    _graph: Any
    _aggregate: Callable[..., AggregateTable[Any, Any]]
    node: Callable[[], Node]

    def first(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None,
        ttl: TTL | None = None,
    ) -> AggregateTable[K, V]:  # fmt: skip
        """Each key's first value: the one that came first, whatever its time."""
        values = self.node().value
        fold = folds.reducing(lambda first, _: first, values.codec)
        return self._aggregate("first", folds.nothing, fold, values.kind, name, emit, backend, ttl)

    def last(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None,
        ttl: TTL | None = None,
    ) -> AggregateTable[K, V]:  # fmt: skip
        """Each key's last value: the one that came last, whatever its time."""
        values = self.node().value
        fold = folds.reducing(lambda _, last: last, values.codec)
        return self._aggregate("last", folds.nothing, fold, values.kind, name, emit, backend, ttl)

    def collect(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None,
        ttl: TTL | None = None,
    ) -> AggregateTable[K, list[V]]:  # fmt: skip
        """All values of each key, in the order in which they came. The list is one entry of state, so it must stay
        small (some hundreds): each commit writes all of it, with emit="update" each record does."""
        values = self.node().value
        kind = list_of(values, "collect")
        return self._aggregate("collect", list, folds.collecting(values.codec), kind, name, emit, backend, ttl)

    def top_n(
        self, n: int, *, by: Callable[[V], Any], least: bool = False, name: str | None = None, emit: Emit = "update",
        backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, list[V]]:  # fmt: skip
        """The `n` values of each key that are greatest, the first of them first; of equal ones those that came first.

        Args:
            by: what of a value is compared.
            least: those that are least.

        Raises:
            TopologyError: `n` is no such number.
        """
        if type(n) is not int or n < 1:
            raise TopologyError(f"top_n: n={n!r} is no whole number, 1 at least")
        check_called(by, "top_n", 1)
        values = self.node().value
        kind, fold = list_of(values, "top_n"), folds.ranking(n, by, values.codec, least=least)
        layout = f"the {n} {'least' if least else 'greatest'}"
        return self._aggregate("top", list, fold, kind, name, emit, backend, ttl, by, layout=layout)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: Emit = "update",
        backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> ResultTable[K, float]:  # fmt: skip
        """The mean of the function over each key's values, which gives numbers. Kept are their sum and their count."""
        return self._keeping("mean", keeping.mean(function), function, name, emit, backend, ttl)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, error: float | None = None,
        name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> ResultTable[K, int]:  # fmt: skip
        """How many different results the function has over each key's values. None does not count, as in SQL.

        Exactly, without `error`: kept are all of them, in one entry of state, so it must stay small (some thousands).
        With it about: kept is a HyperLogLog of Apache DataSketches, of 2 KiB for an error of 0.02, however many there
        are. Either way each commit writes all of it, with emit="update" each record does.

        Args:
            of: the type of the results, where the function's annotation does not say.
            error: the standard error relative to the result, from 0.002 to 0.2: two of three results are within it,
                19 of 20 within twice as much. Needs the extra `kstream[sketches]`.

        Raises:
            TopologyError: there is no such error, or the extra is not installed.
        """
        return self._keeping("distinct", keeping.distinct(function, of, error), function, name, emit, backend, ttl)

    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, error: float = 0.01, name: str | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> ResultTable[K, list[float]]:  # fmt: skip
        """Quantiles of the function over each key's values, which gives numbers: for 0.5 the value that half of them
        are up to (SQL's PERCENTILE_DISC), for 0 the least and for 1 the greatest, which are exact.

        Kept are how many values lie in each of many ranges (DDSketch), in one entry of state: 115 ranges for each power
        of ten that the values reach over, at an error of 0.01.

        Args:
            at: which ones, from 0 to 1. Results are in this order.
            error: how far results are from the value itself at most, relative to it, from 0.001 to 0.2.

        Raises:
            TopologyError: there are no such quantiles, or no such error.
        """
        made = keeping.quantile(function, at, error)
        return self._keeping("quantiles", made, function, name, emit, backend, ttl)

    def _keeping(
        self, step: str, made: keeping.Keeping, function: Callable[..., Any], name: str | None, emit: Emit,
        backend: BackendKind | None, ttl: TTL | None,
    ) -> ResultTable[Any, Any]:  # fmt: skip
        from kstream.dsl.resulting import ResultTable

        table = self._aggregate(
            step, made.initial, made.fold, made.kept, name, emit, backend, ttl, function, layout=made.layout
        )
        return ResultTable(self._graph, table.node, made.result, schema(made.kind, f"the result of {table.name!r}"))


def list_of(values: Schema, step: str) -> Any:
    if is_codec(values.kind):
        raise TopologyError(f"{step}: the values are kept as JSON, which {values} is not: give them a type")
    kind: Any = values.kind
    return list if kind is UNKNOWN else list[kind]
