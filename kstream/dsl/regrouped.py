"""Rows of a table by another key, to be aggregated: what a row gave to its group is taken back when it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kstream.dsl import folds
from kstream.dsl.functions import called, check_takes
from kstream.dsl.stream import AggregateTable, Grouped
from kstream.specs.schema import UNKNOWN, Kind, returned_by
from kstream.specs.store import BackendKind
from kstream.topology import Emit

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")
N = TypeVar("N", int, float)


class Pairs(Grouped[Any, Any]):
    """Rows by their groups, as pairs: what a row was before and what it is now, None where it is not there."""

    def folded(
        self,
        step: str,
        initial: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        subtract: Callable[[Any, Any], Any],
        kind: Any,
        name: str | None,
        emit: Emit,
        backend: BackendKind | None,
        *users: Callable[..., Any],
    ) -> AggregateTable[Any, Any]:
        """The table of what `add` and `subtract` make of each group."""
        fold = _folding(add, subtract)
        return self._aggregate(step, initial, fold, kind, name, emit, backend, None, *users)


class GroupedTable(Generic[K, V]):
    """All aggregations take `name=`, `emit=` and `backend=`, as those of a stream's group do. Rows of a group come from
    several partitions, in any order: adding and taking away must come to the same in any order."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def count(
        self, *, name: str | None = None, emit: Emit = "update", backend: BackendKind | None = None
    ) -> AggregateTable[K, int]:
        """How many rows each group has; 0 where it has none any more."""
        return self._pairs.folded("count", int, folds.counting, _less, int, name, emit, backend)

    def sum(
        self, function: Callable[[V], N], *, name: str | None = None, value: Kind[N] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None,
    ) -> AggregateTable[K, N]:  # fmt: skip
        """The sum of the function over the rows that each group has; 0 where it has none any more."""
        check_takes(function, 1)
        called(function, "sum")
        kind = value or returned_by(function)

        def add(total: Any, row: Any) -> Any:
            return total + function(row)

        def subtract(total: Any, row: Any) -> Any:
            return total - function(row)

        return self._pairs.folded("sum", int, add, subtract, kind, name, emit, backend, function)

    def aggregate(
        self,
        initial: Callable[[], A],
        add: Callable[[A, V], A],
        subtract: Callable[[A, V], A],
        *,
        name: str | None = None,
        value: Kind[A] | None = None,
        emit: Emit = "update",
        backend: BackendKind | None = None,
    ) -> AggregateTable[K, A]:
        """Folds the rows of each group into an accumulator, and takes back what they gave when they change or go.
        (Kafka Streams' `KGroupedTable.aggregate`: the old row is subtracted first, then the new one added.)

        Args:
            initial: makes the accumulator of a new group; a class serves as its type too.
            add, subtract: take accumulator and row, and return the accumulator, changed or new.
        """
        check_takes(initial, 0)
        check_takes(add, 2)
        check_takes(subtract, 2)
        called(subtract, "aggregate")
        kind = value or returned_by(initial)
        if kind is UNKNOWN:
            kind = returned_by(add)
        return self._pairs.folded(
            "aggregate", initial, add, subtract, kind, name, emit, backend, add, subtract, initial
        )


def _less(count: int, _: Any) -> int:
    return count - 1


def _folding(
    add: Callable[[Any, Any], Any], subtract: Callable[[Any, Any], Any]
) -> Callable[[Any, list[Any]], Any]:  # fmt: skip
    def fold(accumulator: Any, pair: list[Any]) -> Any:
        old, new = pair
        if old is not None:
            accumulator = subtract(accumulator, old)
        return accumulator if new is None else add(accumulator, new)

    return fold
