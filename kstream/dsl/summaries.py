"""Aggregations of a group that have a name, besides those of stream.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kstream.codecs import is_codec
from kstream.dsl import folds
from kstream.dsl.functions import check_takes
from kstream.errors import TopologyError
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema
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
        check_takes(by, 1)
        values = self.node().value
        kind, fold = list_of(values, "top_n"), folds.ranking(n, by, values.codec, least=least)
        layout = f"the {n} {'least' if least else 'greatest'}"
        return self._aggregate("top", list, fold, kind, name, emit, backend, ttl, by, layout=layout)

    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: Emit = "update",
        backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> ResultTable[K, float]:  # fmt: skip
        """The mean of the function over each key's values, which gives numbers. Kept are their sum and their count."""
        check_takes(function, 1)
        fold = folds.averaging(function)
        table = self._aggregate("mean", folds.Mean, fold, folds.Mean, name, emit, backend, ttl, function)
        return self._resulting(table, folds.averaged, float)

    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, name: str | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> ResultTable[K, int]:  # fmt: skip
        """How many different results the function has over each key's values, exactly. None does not count, as in SQL.
        Kept are all of them, in one entry of state, so it must stay small (some thousands): each commit writes all of
        it, with emit="update" each record does.

        Args:
            of: the type of the results, where the function's annotation does not say.
        """
        check_takes(function, 1)
        kind = of or returned_by(function)
        results = schema(kind, "the results of count_distinct", key=True)
        fold = folds.distinguishing(function, results.codec)
        table = self._aggregate("distinct", set, fold, set[str], name, emit, backend, ttl, function)
        return self._resulting(table, len, int)

    def _resulting(
        self, table: AggregateTable[Any, Any], result: Callable[[Any], Any], kind: Any
    ) -> ResultTable[Any, Any]:  # fmt: skip
        from kstream.dsl.resulting import ResultTable

        return ResultTable(self._graph, table.node, result, schema(kind, f"the result of {table.name!r}"))


def list_of(values: Schema, step: str) -> Any:
    if is_codec(values.kind):
        raise TopologyError(f"{step}: the values are kept as JSON, which {values} is not: give them a type")
    kind: Any = values.kind
    return list if kind is UNKNOWN else list[kind]
