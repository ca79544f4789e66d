"""Streams, groups and the tables that they are folded into: the functional way to declare a topology.

They make each other, so they share a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from kstream.dsl import folds
from kstream.dsl.functions import called, check_takes, wants_context
from kstream.dsl.graph import Graph, advice
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import FOLDS, OTHER_STEPS, STEPS, Hinted
from kstream.dsl.processor import Processing
from kstream.dsl.summaries import Summaries
from kstream.dsl.table import ReadableTable
from kstream.dsl.tabular import Tabular
from kstream.dsl.windowing import Windowing
from kstream.errors import TopologyError
from kstream.runtime.task.context import Context
from kstream.specs.layout import together
from kstream.specs.names import check_partitions
from kstream.specs.schema import UNKNOWN, Kind, Schema, element_of, returned_by, schema
from kstream.specs.steps import Step
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic
from kstream.topology import AggregateNode, Emit, Node

if TYPE_CHECKING:
    from kstream.specs.sink import BatchingSink
    from kstream.specs.ttl import TTL
    from kstream.specs.windows import Windows

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
G = TypeVar("G")
A = TypeVar("A")
N = TypeVar("N", int, float)
S = TypeVar("S", bound=folds.Summable)
Tables = Iterable[ReadableTable[Any, Any]]


class Stream(Hinted, Processing[K, V]):
    """Records of one type of key and value. Every method declares a step; nothing runs until the app does.

    Where a function's result type matters (before a repartition, an aggregation's value, a typed topic), it is taken
    from the function's annotation or from `value=`/`key=`; undeclared types travel as plain JSON.

    Functions take the value, or the value and the context. (Overloads say so, for of a union of the two a type
    checker cannot tell what a lambda returns.) `tables=` names those that a function uses, where its code does not show
    it (`kstream.uses`).
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys((*FOLDS, "window"), "group first, with group_by_key() or group_by(function)"),
        "suppress": "a table has it: to_table(name).suppress(...)",
    }

    def __repr__(self) -> str:
        return f"Stream({self.node.name!r}, key={self.node.key}, value={self.node.value})"

    @overload
    def map(self, function: Callable[[V], R], *, value: Kind[R] | None = None, tables: Tables = ()) -> Stream[K, R]: ...
    @overload
    def map(
        self, function: Callable[[V, Context[K]], R], *, value: Kind[R] | None = None, tables: Tables = ()
    ) -> Stream[K, R]: ...
    def map(
        self, function: Callable[..., R], *, value: Kind[R] | None = None, tables: Tables = ()
    ) -> Stream[K, R]:  # fmt: skip
        """Each value becomes the function's result."""
        made = schema(value or returned_by(function), f"the result of {called(function, 'map')}")
        return self._step(Step.MAP, function, tables, value=made)

    @overload
    def filter(self, function: Callable[[V], Any], *, tables: Tables = ()) -> Stream[K, V]: ...
    @overload
    def filter(self, function: Callable[[V, Context[K]], Any], *, tables: Tables = ()) -> Stream[K, V]: ...
    def filter(self, function: Callable[..., Any], *, tables: Tables = ()) -> Stream[K, V]:
        """Keeps the values for which the function is true."""
        called(function, "filter")
        return self._step(Step.FILTER, function, tables)

    @overload
    def flat_map(
        self, function: Callable[[V], Iterable[R]], *, value: Kind[R] | None = None, tables: Tables = ()
    ) -> Stream[K, R]: ...
    @overload
    def flat_map(
        self, function: Callable[[V, Context[K]], Iterable[R]], *, value: Kind[R] | None = None, tables: Tables = ()
    ) -> Stream[K, R]: ...
    def flat_map(
        self, function: Callable[..., Iterable[R]], *, value: Kind[R] | None = None, tables: Tables = ()
    ) -> Stream[K, R]:
        """Each value becomes any number of values."""
        call = called(function, "flat_map", generator=True)
        kind: Any = value or element_of(returned_by(function))
        return self._step(Step.FLAT_MAP, function, tables, value=schema(kind, f"the result of {call}"))

    @overload
    def peek(self, function: Callable[[V], Any], *, tables: Tables = ()) -> Stream[K, V]: ...
    @overload
    def peek(self, function: Callable[[V, Context[K]], Any], *, tables: Tables = ()) -> Stream[K, V]: ...
    def peek(self, function: Callable[..., Any], *, tables: Tables = ()) -> Stream[K, V]:
        """Calls the function for its effect and passes the value on."""
        called(function, "peek")
        return self._step(Step.PEEK, function, tables)

    @overload
    def rekey(self, function: Callable[[V], G], *, key: Kind[G] | None = None, tables: Tables = ()) -> Stream[G, V]: ...
    @overload
    def rekey(
        self, function: Callable[[V, Context[K]], G], *, key: Kind[G] | None = None, tables: Tables = ()
    ) -> Stream[G, V]: ...
    def rekey(self, function: Callable[..., G], *, key: Kind[G] | None = None, tables: Tables = ()) -> Stream[G, V]:
        """Gives each record a new key, on the partition where it is (`group_by` moves records to their key's home)."""
        return self._rekey(function, key, "rekey", tables)

    @overload
    def group_by(
        self, function: Callable[[V], G], *, name: str | None = None, key: Kind[G] | None = None,
        parallelism: int | None = None, group: str | None = None, tables: Tables = (),
    ) -> Grouped[G, V]: ...  # fmt: skip
    @overload
    def group_by(
        self, function: Callable[[V, Context[K]], G], *, name: str | None = None, key: Kind[G] | None = None,
        parallelism: int | None = None, group: str | None = None, tables: Tables = (),
    ) -> Grouped[G, V]: ...  # fmt: skip
    def group_by(
        self,
        function: Callable[..., G],
        *,
        name: str | None = None,
        key: Kind[G] | None = None,
        parallelism: int | None = None,
        group: str | None = None,
        tables: Tables = (),
    ) -> Grouped[G, V]:
        """Groups by a new key: records travel through the repartition topic `<app>-<name>-repartition`.

        Args:
            parallelism: partitions of that topic, hence tasks behind it; default: as many as the input has.
            group: the isolation group of what comes behind it; default: that of what comes before.
        """
        rekeyed: Stream[G, V] = self._rekey(function, key, "group_by", tables)
        name = self._graph.group_name(name, self.node, "by")
        check_partitions(parallelism, f"group {name!r}: parallelism")
        return Grouped(Grouping(self._graph, rekeyed.node, name, parallelism, group))

    def group_by_key(
        self, *, name: str | None = None, parallelism: int | None = None, group: str | None = None
    ) -> Grouped[K, V]:
        """Groups by the key that the records have. They move only when the key was changed by `rekey`, or when what
        comes behind is to be in another isolation group."""
        if self._rekeyed or group is not None or name is not None:
            name = self._graph.group_name(name, self.node, "by-key")
            check_partitions(parallelism, f"group {name!r}: parallelism")
        if self._rekeyed or group is not None:
            return Grouped(Grouping(self._graph, self.node, name, parallelism, group))
        return Grouped(Grouping(self._graph, self.node))

    def sink(self, sink: BatchingSink, *, name: str | None = None) -> None:
        """Writes the records into something outside Kafka, in batches, as a part of the checkpoint.

        Args:
            name: of the sink, by which it may keep offsets: default, from the steps before it.
        """
        self._graph.outside(self.node, sink, name)

    def _rekey(self, function: Callable[..., Any], key: Any, method: str, tables: Tables) -> Stream[Any, V]:
        call = called(function, method)
        kind = schema(key or returned_by(function), f"the key of {call}", key=True)
        return self._step(Step.REKEY, function, tables, key=kind, rekeyed=True)

    def _step(
        self,
        step: Step,
        function: Callable[..., Any],
        tables: Tables,
        *,
        key: Schema | None = None,
        value: Schema | None = None,
        rekeyed: bool = False,
    ) -> Stream[Any, Any]:
        node = self._graph.step(self.node, step, function, key, value, tables)
        return Stream(self._graph, node, rekeyed=rekeyed or self._rekeyed)


class Grouped(Hinted, Windowing[K, V], Summaries[K, V]):
    """Records grouped by key, ready to be aggregated.

    All aggregations take `name=`, `emit=`, `backend=` and `ttl=`. The name is that of the store and its changelog: keep
    it, under another one the state is empty. "update" writes the new result for every record, "commit" once per changed
    key and commit. `backend` is where what is committed lies ("rocksdb", "memory", "file"); None: where the setting
    says. `ttl`: how long a result is kept after its last record; then its key starts anew.
    """

    INSTEAD = dict.fromkeys((*STEPS, "to"), "stream() gives the grouped records as a stream")

    def __init__(self, records: Grouping) -> None:
        self._records, self._graph = records, records.graph

    def node(self) -> Node:
        """The node that emits the grouped records: the repartition topic's source, made once, when first wanted."""
        return self._records.node()

    def isolated(self, group: str) -> Grouped[K, V]:
        """The same, with what comes behind it in an isolation group, where none was given yet."""
        return Grouped(self._records.isolated(group))

    def stream(self) -> Stream[K, V]:
        """The records behind the repartition, as a stream."""
        return Stream(self._graph, self.node())

    def count(
        self, *, name: str | None = None, value: Kind[int] = int,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, int]:  # fmt: skip
        """How many records each key has had."""
        return self._aggregate("count", int, folds.counting, value, name, emit, backend, ttl)

    @overload
    def sum(
        self, function: Callable[[V], N], *, name: str | None = None, value: Kind[N] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, N]: ...  # fmt: skip
    @overload
    def sum(
        self, function: Callable[[V], S], *, name: str | None = None, value: Kind[S] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, S]: ...  # fmt: skip
    def sum(
        self, function: Callable[[V], Any], *, name: str | None = None, value: Any = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, Any]:  # fmt: skip
        """The sum of the function over each key's values: numbers, or whatever can be added."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        initial = int if kind in folds.NUMBERS else folds.nothing
        return self._aggregate("sum", initial, folds.summing(function), kind, name, emit, backend, ttl, function)

    def min(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, R]:  # fmt: skip
        """The least result of the function over each key's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("min", folds.nothing, folds.least(function), kind, name, emit, backend, ttl, function)

    def max(
        self, function: Callable[[V], R], *, name: str | None = None, value: Kind[R] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, R]:  # fmt: skip
        """The greatest result of the function over each key's values."""
        check_takes(function, 1)
        kind = value or returned_by(function)
        return self._aggregate("max", folds.nothing, folds.greatest(function), kind, name, emit, backend, ttl, function)

    def reduce(
        self, function: Callable[[V, V], V], *, name: str | None = None, value: Kind[V] | None = None,
        emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, V]:  # fmt: skip
        """Combines each key's values two at a time; the first value is the first result."""
        check_takes(function, 2)
        values = self.node().value
        fold = folds.reducing(function, values.codec)
        return self._aggregate("reduce", folds.nothing, fold, value or values.kind, name, emit, backend, ttl, function)

    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V], A], *, name: str | None = None,
        value: Kind[A] | None = None, emit: Emit = "update",
        backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, A]: ...  # fmt: skip
    @overload
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[[A, V, Context[K]], A], *, name: str | None = None,
        value: Kind[A] | None = None, emit: Emit = "update",
        backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, A]: ...  # fmt: skip
    def aggregate(
        self, initial: Callable[[], A], fold: Callable[..., A], *, name: str | None = None,
        value: Kind[A] | None = None, emit: Emit = "update", backend: BackendKind | None = None, ttl: TTL | None = None,
    ) -> AggregateTable[K, A]:  # fmt: skip
        """Folds each key's values into an accumulator.

        Args:
            initial: makes the accumulator of a new key; a class serves as its type too.
            fold: takes accumulator and value (and the context, when it has a third parameter) and returns the
                accumulator, changed or new.
        """
        check_takes(initial, 0)
        kind = value or returned_by(initial)
        if kind is UNKNOWN:
            kind = returned_by(fold)
        return self._aggregate("aggregate", initial, fold, kind, name, emit, backend, ttl, fold, initial)

    def _aggregate(
        self,
        step: str,
        initial: Callable[[], Any],
        fold: Callable[..., Any],
        kind: Any,
        name: str | None,
        emit: Emit,
        backend: BackendKind | None,
        ttl: TTL | None,
        *users: Callable[..., Any],
        layout: str = "",
    ) -> AggregateTable[Any, Any]:
        self._check_emit(emit)
        source = self.node()
        made = self._graph.aggregation(source, step, name, backend, users)
        value = schema(kind, f"the result of {step} {made!r}")
        if ttl is not None and getattr(ttl, "per", "key") != "key":
            raise TopologyError(
                f"{step} {made!r}: ttl= with per='entry' is for tables: what a function of an aggregation does to the "
                "entries of its result is not seen"
            )
        spec = self._store(made, source.key, value, backend, ttl)
        if layout:
            spec = replace(spec, layout=together(layout, spec.layout))
        self._graph.store(spec, step, advice(name))
        node = AggregateNode(
            name=made,
            parents=(source,),
            key=spec.key,
            value=value,
            stores=(spec,),
            users=users,
            initial=initial,
            fold=fold,
            wants_context=wants_context(fold, 2),
            emit=emit,
            windows=self._windows,
            grace=self._grace,
            late=self._late,
            early=self._early,
        )
        self._graph.add(node)
        return AggregateTable(self._graph, node)

    _windows: Windows | None = None
    _grace = 0  # ms that windows stay open
    _late: Topic[Any, Any] | None = None
    _early = 0  # ms of event time after which open windows are told again

    def _check_emit(self, emit: Emit) -> None:
        if emit == "close":
            raise TopologyError("emit='close': these results are of no windows, so they never close; use window(...)")
        if emit not in ("update", "commit"):
            raise TopologyError(f"emit={emit!r}: it is 'update' (every record) or 'commit' (once per key and commit)")

    def _store(
        self, name: str, key: Schema, value: Schema, backend: BackendKind | None, ttl: TTL | None
    ) -> StoreSpec:  # fmt: skip
        return StoreSpec(name, key, value, backend=backend, ttl=ttl)


class AggregateTable(Hinted, Tabular[K, V], ReadableTable[K, V]):
    """The result of an aggregation, which alone writes it. Its changes are a stream; agents may read it, and streams
    and tables join it."""

    INSTEAD = dict.fromkeys(OTHER_STEPS, "stream() gives the changes as a stream")

    def __init__(self, graph: Graph, node: AggregateNode) -> None:
        super().__init__(node.stores[0])
        self._graph, self.node, self.rows = graph, node, node.stores[0]

    def stream(self) -> Stream[K, V]:  # type: ignore[override]  # results do not go: no change is None
        """The emitted changes as a stream."""
        return Stream(self._graph, self.node)

    def to(self, topic: Topic[K, V]) -> None:  # type: ignore[override]
        """Writes each emitted change to a topic."""
        self.stream().to(topic)
