"""Aggregations over sessions whose results are something else than what they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from kstream.dsl import keeping
from kstream.specs.schema import Kind, nullable, schema
from kstream.specs.store import BackendKind

if TYPE_CHECKING:
    from kstream.dsl.grouping import Grouping
    from kstream.dsl.resulting import SessionResults

K = TypeVar("K")
V = TypeVar("V")

Before = Literal["update", "commit"]
"""When results are emitted of sessions that may still grow. Some are then taken back, by None."""
AtEnd = Literal["close"]

HAS = ("mean", "count_distinct", "quantiles")


class SessionSummaries(Generic[K, V]):
    """The part of a group of sessions that knows them. They say what those of a group without windows say."""

    _records: Grouping
    _aggregate: Callable[..., Any]

    @overload
    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: Before = "update",
        backend: BackendKind | None = None,
    ) -> SessionResults[K, float, float | None]: ...  # fmt: skip
    @overload
    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: AtEnd,
        backend: BackendKind | None = None,
    ) -> SessionResults[K, float, float]: ...  # fmt: skip
    def mean(
        self, function: Callable[[V], float], *, name: str | None = None, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """The mean of the function over each session's values."""
        return self._keeping("mean", keeping.mean(function), function, name, emit, backend)

    @overload
    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, error: float | None = None,
        name: str | None = None, emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionResults[K, int, int | None]: ...  # fmt: skip
    @overload
    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, error: float | None = None,
        name: str | None = None, emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionResults[K, int, int]: ...  # fmt: skip
    def count_distinct(
        self, function: Callable[[V], Any], *, of: Kind[Any] | None = None, error: float | None = None,
        name: str | None = None, emit: Any = "update", backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """How many different results the function has over each session's values: exactly, or about, with `error`, as
        in a group's `count_distinct`. Of sessions that are merged each counts once."""
        return self._keeping("distinct", keeping.distinct(function, of, error), function, name, emit, backend)

    @overload
    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, error: float = 0.01, name: str | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionResults[K, list[float], list[float] | None]: ...  # fmt: skip
    @overload
    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, error: float = 0.01, name: str | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionResults[K, list[float], list[float]]: ...  # fmt: skip
    def quantiles(
        self, function: Callable[[V], float], at: Sequence[float], *, error: float = 0.01, name: str | None = None,
        emit: Any = "update", backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """Quantiles of the function over each session's values, as in a group's `quantiles`."""
        made = keeping.quantile(function, at, error)
        return self._keeping("quantiles", made, function, name, emit, backend)

    def _keeping(
        self, step: str, made: keeping.Keeping, function: Callable[..., Any], name: str | None, emit: Any,
        backend: BackendKind | None,
    ) -> SessionResults[Any, Any, Any]:  # fmt: skip
        from kstream.dsl.resulting import SessionResults

        table = self._aggregate(
            step, made.initial, made.fold, made.merge, made.kept, name, emit, backend, function, layout=made.layout
        )
        what = f"the result of {table.name!r}"
        value = schema(made.kind, what)
        return SessionResults(
            self._records.graph, table.node, made.result, value if emit == "close" else nullable(value, what)
        )
