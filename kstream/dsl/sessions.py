"""Records grouped by key and session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, cast, overload

from kstream.codecs.base import is_codec
from kstream.codecs.spans import WindowedSpan, span_codec
from kstream.dsl import folds
from kstream.dsl.functions import called, check_called, check_takes, wants_context
from kstream.dsl.graph import advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import FOLDS, OF_WINDOWS, OTHER_STEPS, Hinted
from kstream.dsl.session_summaries import HAS, AtEnd, Before, SessionSummaries
from kstream.dsl.stream import Stream
from kstream.dsl.summaries import list_of
from kstream.dsl.table import ReadableTable
from kstream.dsl.windowed import check_emit_of_windows
from kstream.errors import TopologyError
from kstream.runtime.task.context import Context
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Kind, Schema, nullable, returned_by, schema
from kstream.specs.sessions import OpenSession, OpenSessions, Session, VaryingSession
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic, check_topic
from kstream.topology import AggregateNode, Node

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")
T = TypeVar("T")
S = TypeVar("S", bound=folds.Summable)


class SessionGroup(Hinted, SessionSummaries[K, V]):
    """Records grouped by key and session, ready to be aggregated, as those of a group are. Results have keys of the
    type `kstream.WindowedSpan`.

    All aggregations take `name=` (of the store and its changelog: keep it), `emit=` and `backend=`. `emit="update"`
    writes the new result for every record, "commit" once per changed session and commit, "close" once per session, when
    it closes. A session that grows, or is merged with another, has another key than before: with "update" and "commit"
    the result under the old key is taken back by None.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(OF_WINDOWS, "aggregate it first: count(), sum(function), aggregate(...)"),
        **dict.fromkeys(
            (fold for fold in FOLDS if fold not in HAS),
            "sessions have count, sum, min, max, mean, count_distinct, quantiles, reduce, collect and "
            "aggregate(initial, fold, merge)",
        ),
    }

    def __init__(
        self, records: Grouping, sessions: Session, grace: timedelta, late: Topic[K, V] | None = None
    ) -> None:  # fmt: skip
        self._records: Grouping = records
        self._sessions, self._late = sessions, late
        if sessions.gap_of is not None:
            check_called(sessions.gap_of, "window: gap_of=", 1)
        if late is not None:
            check_topic(late, "window: late=")
        self._grace = whole_milliseconds(grace, "window: grace=")

    def node(self) -> Node:
        return self._records.node()

    @overload
    def count(
        self, *, name: str | None = None, value: Kind[int] = int, emit: Before = "update",
        backend: BackendKind | None = None,
    ) -> SessionTable[K, int, int | None]: ...  # fmt: skip
    @overload
    def count(
        self, *, name: str | None = None, value: Kind[int] = int, emit: AtEnd, backend: BackendKind | None = None
    ) -> SessionTable[K, int, int]: ...
    def count(
        self, *, name: str | None = None, value: Kind[int] = int, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """How many records each session has."""
        return self._aggregate("count", int, folds.counting, _add, value, name, emit, backend)

    @overload
    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionTable[K, S, S | None]: ...  # fmt: skip
    @overload
    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, S, S]: ...  # fmt: skip
    def sum(
        self, function: Callable[[V], Any], *, name: str | None = None, value: Any = None, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """The sum of the function over each session's values: numbers, or whatever can be added."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        initial = int if kind in folds.NUMBERS else folds.nothing
        return self._aggregate("sum", initial, folds.summing(function), _add, kind, name, emit, backend, function)

    @overload
    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionTable[K, R, R | None]: ...  # fmt: skip
    @overload
    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, R, R]: ...  # fmt: skip
    def min(
        self, function: Callable[[V], Any], *, name: str | None = None, value: Any = None, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """The least result of the function over each session's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate(
            "min", folds.nothing, folds.least(function), folds.least(_same), kind, name, emit, backend, function
        )

    @overload
    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionTable[K, R, R | None]: ...  # fmt: skip
    @overload
    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, R, R]: ...  # fmt: skip
    def max(
        self, function: Callable[[V], Any], *, name: str | None = None, value: Any = None, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """The greatest result of the function over each session's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate(
            "max", folds.nothing, folds.greatest(function), folds.greatest(_same), kind, name, emit, backend, function
        )

    @overload
    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionTable[K, V, V | None]: ...  # fmt: skip
    @overload
    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, V, V]: ...  # fmt: skip
    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Any = None, emit: Any = "update",
        backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """Combines each session's values two at a time; the first value is the first result. Sessions that are merged
        are combined in the same way."""
        check_takes(function, 2)
        values = self.node().value
        fold, kind = folds.reducing(function, values.codec), value or values.kind
        return self._aggregate("reduce", folds.nothing, fold, function, kind, name, emit, backend, function)

    @overload
    def collect(
        self, *, name: str | None = None, emit: Before = "update", backend: BackendKind | None = None
    ) -> SessionTable[K, list[V], list[V] | None]: ...
    @overload
    def collect(
        self, *, name: str | None = None, emit: AtEnd, backend: BackendKind | None = None
    ) -> SessionTable[K, list[V], list[V]]: ...
    def collect(self, *, name: str | None = None, emit: Any = "update", backend: BackendKind | None = None) -> Any:
        """All values of each session, in the order in which they came; of sessions that are merged those of the earlier
        session first. They are in the entry of the key, so they must stay few (some hundreds)."""
        values = self.node().value
        kind = list_of(values, "collect")
        return self._aggregate("collect", list, folds.collecting(values.codec), _add, kind, name, emit, backend)

    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], merge: Callable[[A, A], A] | None = None, *,
        name: str | None = None, value: Kind[A] | None = None, emit: Before = "update",
        backend: BackendKind | None = None,
    ) -> SessionTable[K, A, A | None]: ...  # fmt: skip
    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], merge: Callable[[A, A], A] | None = None, *,
        name: str | None = None, value: Kind[A] | None = None, emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, A, A]: ...  # fmt: skip
    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V, Context[K]], A],
        merge: Callable[[A, A], A] | None = None, *, name: str | None = None, value: Kind[A] | None = None,
        emit: Before = "update", backend: BackendKind | None = None,
    ) -> SessionTable[K, A, A | None]: ...  # fmt: skip
    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V, Context[K]], A],
        merge: Callable[[A, A], A] | None = None, *, name: str | None = None, value: Kind[A] | None = None,
        emit: AtEnd, backend: BackendKind | None = None,
    ) -> SessionTable[K, A, A]: ...  # fmt: skip
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[..., A], merge: Callable[[A, A], A] | None = None, *,
        name: str | None = None, value: Any = None, emit: Any = "update", backend: BackendKind | None = None,
    ) -> Any:  # fmt: skip
        """Folds each session's values into an accumulator.

        Args:
            initial: makes the accumulator of a new session; a class serves as its type too.
            fold: takes accumulator and value (and the context, when it has a third parameter) and returns the
                accumulator, changed or new.
            merge: takes the accumulators of two sessions that a record has brought together, the one with the earlier
                start first, and returns that of both. It is always given: a late record may do that to any two.
        """
        if merge is None:
            raise TopologyError(
                "aggregate(...) over sessions needs merge=: a function that makes one accumulator of those of two "
                "sessions which a record between them joins"
            )
        check_takes(initial, 0)
        called(merge, "aggregate")
        check_takes(merge, 2)
        kind = value or returned_by(initial)
        if kind is UNKNOWN:
            kind = returned_by(fold)
        return self._aggregate("aggregate", initial, fold, merge, kind, name, emit, backend, fold, initial, merge)

    def _aggregate(
        self,
        step: str,
        initial: Callable[[], Any],
        fold: Callable[..., Any],
        merge: Callable[[Any, Any], Any],
        kind: Any,
        name: str | None,
        emit: Any,
        backend: BackendKind | None,
        *users: Callable[..., Any],
        layout: str = "",
    ) -> SessionTable[Any, Any, Any]:
        check_emit_of_windows(emit)
        graph, source, gap_of = self._records.graph, self.node(), self._sessions.gap_of
        users += () if gap_of is None else (gap_of,)
        made = graph.aggregation(source, step, name, backend, users)
        what = f"the result of {step} {made!r}"
        value = schema(kind, what)
        if gap_of is not None and is_codec(kind):
            raise TopologyError(f"{what}: sessions with gap_of= are kept as JSON, which {value} is not: give it a type")
        struct: Any = OpenSession if gap_of is None else VaryingSession
        session: Any = None if is_codec(kind) else struct[Any if kind is UNKNOWN else kind]
        sessions: Any = OpenSessions(value.codec) if session is None else list[session]
        spec = StoreSpec(made, source.key, schema(sessions, what), backend=backend, holds="sessions", layout=layout)
        graph.store(spec, step, advice(name))
        node = AggregateNode(
            name=made,
            parents=(source,),
            key=_span_of(source.key),
            value=value if emit == "close" else nullable(value, what),
            stores=(spec,),
            users=users,
            initial=initial,
            fold=fold,
            wants_context=wants_context(fold, 2),
            emit=emit,
            windows=self._sessions,
            grace=self._grace,
            late=self._late,
            merge=merge,
        )
        graph.add(node)
        return SessionTable(graph, node)


class SessionTable(Hinted, ReadableTable[K, list[OpenSession[V]]], Generic[K, V, T]):
    """The result of an aggregation over sessions, which alone writes it. As a table it has the open sessions of each
    key; as a stream the results, by key and session."""

    INSTEAD = dict.fromkeys(OTHER_STEPS, "stream() gives the results as a stream")

    def __init__(self, graph: Any, node: AggregateNode) -> None:
        super().__init__(node.stores[0])
        self._graph, self.node = graph, node

    def stream(self) -> Stream[WindowedSpan[K], T]:
        """The emitted results as a stream."""
        return Stream(self._graph, self.node)

    def to(self, topic: Topic[WindowedSpan[K], T]) -> None:
        """Writes each emitted result to a topic."""
        self.stream().to(topic)


def _span_of(key: Schema) -> Schema:
    if key.kind is UNKNOWN or is_codec(key.kind):
        return Schema(UNKNOWN, span_codec(key.codec))
    return schema(cast("Any", WindowedSpan)[key.kind], "the key of a session", key=True)


def _add(one: Any, other: Any) -> Any:
    return one + other


def _same(value: Any) -> Any:
    return value
