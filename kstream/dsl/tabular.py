"""Tables that something else than user code writes: streams, aggregations, other tables. Their changes are a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Optional, TypeVar, get_args, overload

from kstream.codecs import Windowed, is_codec
from kstream.dsl.functions import called, check_takes
from kstream.dsl.graph import Graph, advice
from kstream.dsl.hints import OTHER_STEPS, Hinted
from kstream.dsl.table import ReadableTable
from kstream.errors import TopologyError
from kstream.specs.names import check_partitions
from kstream.specs.schema import UNKNOWN, Kind, Schema, nullable, returned_by, schema, told_apart
from kstream.specs.steps import Step
from kstream.specs.store import BackendKind, StoreSpec, check_backend
from kstream.specs.topic import Topic
from kstream.table_nodes import RetractNode, TableChangeNode, TableJoinHow, TableNode
from kstream.topology import MergeNode, Node, StatelessNode

if TYPE_CHECKING:
    from datetime import timedelta

    from kstream.dsl.regrouped import GroupedTable
    from kstream.dsl.stream import Stream
    from kstream.specs.timers import TimerClock

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G")

View = Callable[[Any], Any]


class Tabular(Generic[K, V]):
    """Rows and their changes.

    Attributes:
        node: emits the changes: the new value of a key, None where it has none any more.
        rows: the store that has the rows, seen through `views`, one after the other.
        base: the node that writes them, where it knows what was there before.
    """

    node: Node
    rows: StoreSpec
    views: tuple[View, ...] = ()
    base: TableNode | None = None
    _graph: Graph

    def stream(self) -> Stream[K, V | None]:
        """The changes as a stream: the new value of a key, None where it has none any more."""
        from kstream.dsl.stream import Stream

        return Stream(self._graph, self.node)

    def to(self, topic: Topic[K, V | None]) -> None:
        """Writes each change to a topic, which takes None where rows can go."""
        self.stream().to(topic)

    def filter(self, function: Callable[[V], Any]) -> DerivedTable[K, V]:
        """The rows for which the function is true. It keeps no copy of them: the function is called again where a row
        is looked up, so it must give the same each time. (Kafka Streams' `KTable.filter`.)

        A change to a row that is left out is None in `stream()`, whether it was there before or not.
        """
        called(function, "filter")
        check_takes(function, 1)
        return self._derived("filter", partial(_kept, function), function, self.node.value)

    def map_values(self, function: Callable[[V], R], *, value: Kind[R] | None = None) -> DerivedTable[K, R]:
        """The same keys with the function's results; a row of which it is None is not there. It keeps no copy of them:
        the function is called again where a row is looked up, so it must give the same each time. (Kafka Streams'
        `KTable.mapValues`.)
        """
        call = called(function, "map_values")
        check_takes(function, 1)
        kind = schema(value or returned_by(function), f"the result of {call}")
        return self._derived("map-values", function, function, kind)

    @overload
    def join(
        self, other: Tabular[K, T], joiner: Callable[[V, T], R], *, how: Literal["inner"] = "inner",
        name: str | None = None, value: Kind[R] | None = None, backend: BackendKind | None = None,
    ) -> StreamTable[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Tabular[K, T], joiner: Callable[[V, T | None], R], *, how: Literal["left"],
        name: str | None = None, value: Kind[R] | None = None, backend: BackendKind | None = None,
    ) -> StreamTable[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Tabular[K, T], joiner: Callable[[V | None, T | None], R], *, how: Literal["outer"],
        name: str | None = None, value: Kind[R] | None = None, backend: BackendKind | None = None,
    ) -> StreamTable[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Tabular[G, T], joiner: Callable[[V, T], R], *, on: Callable[[V], G | None],
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> StreamTable[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Tabular[G, T], joiner: Callable[[V, T | None], R], *, on: Callable[[V], G | None],
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
        backend: BackendKind | None = None,
    ) -> StreamTable[K, R]: ...  # fmt: skip
    def join(
        self,
        other: Tabular[Any, Any],
        joiner: Callable[[Any, Any], Any],
        *,
        on: Callable[[Any], Any] | None = None,
        how: TableJoinHow = "inner",
        name: str | None = None,
        value: Any = None,
        backend: BackendKind | None = None,
    ) -> StreamTable[Any, Any]:
        """A table of the keys that both tables have ("inner"), that this one has ("left"), or that one of them has
        ("outer"), with what the joiner makes of the two rows. A change on either side is a change of the result, with
        its timestamp. (Kafka Streams' table-table join.)

        With `on` by a foreign key: each row of this table finds the row of the other whose key is `on(row)`, and is
        joined anew when that changes. (Kafka Streams' foreign-key join, KIP-213.)

        The topics of both sides need as many partitions each, but not with `on`: then rows ask and are answered through
        the topics `<app>-<name>-subscription-repartition` and `<app>-<name>-answer-repartition`.

        Args:
            on: says of a row of this table the key of the other's; None: it has no partner.
            joiner: takes this table's row and the other's; None stands for one that is not there. What it is given of
                the side that did not change is a copy.
            name: of the resulting table and its changelog: give one, and keep it.
            value: the type of the results, where the joiner's annotation does not say.
            backend: as in `to_table`.

        Raises:
            TopologyError: there is no such `how`, the keys' types differ, the other is no such table, or is another
                app's.
        """
        call = called(joiner, "join")
        check_takes(joiner, 2)
        if how not in get_args(TableJoinHow):
            raise TopologyError(f"{call}: how={how!r} is neither 'inner', 'left' nor 'outer'")
        if not isinstance(other, Tabular):
            raise TopologyError(
                f"{call}: a table is joined with what to_table(...), an aggregation or another join returned, not "
                f"{other!r}"
            )
        if other._graph is not self._graph:
            raise TopologyError(f"{call}: table {other.rows.name!r} is of another app")
        for rows in (self.rows, other.rows):
            check_lasting(rows, call)
            check_not_expiring(rows, call)
        if on is not None:
            from kstream.dsl.foreign import join_foreign

            joined = join_foreign(self._graph, self, other, joiner, on, how, name, value, backend)
            return StreamTable(self._graph, joined)
        if other.rows.key.codec is not self.rows.key.codec:
            check_no_windows(call, self.rows.key, other.rows.key)
            mine, theirs = told_apart(self.rows.key.kind, other.rows.key.kind)
            raise TopologyError(
                f"{call}: table {self.rows.name!r} has keys of type {mine}, and table {other.rows.name!r} of "
                f"type {theirs}: a key has one home only where both have the same type"
            )
        made = self._graph.child_name(self.node, "join") if name is None else name
        check_backend(backend, f"table {made!r}")
        results = nullable(schema(value or returned_by(joiner), f"the result of {call}"), f"the result of {call}")
        spec = StoreSpec(made, self.rows.key, results, backend=backend)
        self._graph.store(spec, "table", advice(name))
        sides = [
            TableChangeNode(
                name=made,
                parents=(changed.node,),
                key=self.rows.key,
                value=results,
                stores=(asked.rows,),
                users=(joiner, *asked.views),
                joiner=joiner,
                how=how,
                left=left,
                views=asked.views,
            )
            for left, changed, asked in ((True, self, other), (False, other, self))
        ]
        both = MergeNode(name=made, parents=tuple(sides), key=self.rows.key, value=results)
        node = TableNode(name=made, parents=(both,), key=self.rows.key, value=results, stores=(spec,), quiet=True)
        for one in (*sides, both, node):
            self._graph.add(one)
        return StreamTable(self._graph, node)

    def suppress(
        self, after: timedelta, *, name: str, clock: TimerClock = "event", backend: BackendKind | None = None
    ) -> StreamTable[K, V]:
        """A table of the same rows that changes less often: a row that was changed is told so long after that, as it is
        then; what it was meanwhile is not. (Kafka Streams' `suppress(untilTimeLimit(...))`, KIP-328.)

        A change has the time at which it was due. What waits is state: one entry and one timer for each such row.

        Args:
            after: counted from the first change since the row was told last.
            name: of the resulting table and its changelog, and with `-held` behind it of what waits: keep it.
            clock: "event": a change is told when the time of the task has passed it. "wall": by the clock.
            backend: as in `to_table`.

        Raises:
            TopologyError: there is no such length of time or clock, or the rows go without a change: those of windows
                (`emit="close"` tells them once), and those that expire.
        """
        from kstream.dsl.suppressing import suppress

        call = f"suppress {name!r}"
        check_lasting(self.rows, call)
        check_not_expiring(self.rows, call)
        check_backend(backend, f"table {name!r}")
        return StreamTable(self._graph, suppress(self._graph, self.stream(), after, name, clock, backend))

    def group_by(
        self, function: Callable[[V], G], *, name: str | None = None, key: Kind[G] | None = None,
        parallelism: int | None = None,
    ) -> GroupedTable[G, V]:  # fmt: skip
        """Groups the rows by what the function says of each, None: in no group. What a row gave to its group is taken
        back when it changes or goes. Rows travel through `<app>-<name>-repartition`. (Kafka Streams' `KTable.groupBy`.)

        Args:
            parallelism: partitions of that topic, hence tasks behind it; default: as many as the input has.

        Raises:
            TopologyError: this is an aggregation, which does not keep what it emitted last.
        """
        from kstream.dsl.grouping import Grouping
        from kstream.dsl.regrouped import GroupedTable, Pairs

        call = called(function, "group_by")
        check_takes(function, 1)
        if self.base is None:
            raise TopologyError(
                f"{call}: what {self.rows.name!r} had emitted before is not known: group a table of its changes, "
                "stream().to_table(name)"
            )
        row = self.node.value
        if is_codec(row.kind):
            raise TopologyError(f"{call}: rows travel in pairs, as JSON, which {row} is not: give them a type")
        kind: Any = Any if row.kind is UNKNOWN else Optional[row.kind]  # noqa: UP045  # whatever the kind is
        pair: Any = list[kind]
        pairs = schema(pair, f"the rows of {self.rows.name!r}")
        made = self._graph.group_name(name, self.node, "by")
        check_partitions(parallelism, f"group {made!r}: parallelism")
        node = RetractNode(
            name=made,
            parents=(self.base,),
            key=schema(key or returned_by(function), f"the key of {call}", key=True),
            value=pairs,
            users=(function, *self.views),
            function=function,
            views=self.views,
        )
        self._graph.add(node)
        return GroupedTable(Pairs(Grouping(self._graph, node, made, parallelism)))

    def _derived(self, step: str, view: View, function: Callable[..., Any], value: Schema) -> DerivedTable[Any, Any]:
        made = self._graph.child_name(self.node, step)
        node = StatelessNode(
            name=made,
            parents=(self.node,),
            key=self.node.key,
            value=nullable(value, f"{step} of table {self.rows.name!r}"),
            users=(function,),
            step=Step.MAP,
            function=partial(_seen, view),
            wants_context=False,
        )
        self._graph.add(node)
        return DerivedTable(self._graph, node, self, view)


class DerivedTable(Hinted, Tabular[K, V]):
    """Rows of another table, filtered or mapped. It has no store, so agents and queries cannot read it; a table of its
    changes, `table.stream().to_table(name)`, they can."""

    INSTEAD = dict.fromkeys(OTHER_STEPS, "stream() gives the changes as a stream")

    def __init__(self, graph: Graph, node: Node, of: Tabular[Any, Any], view: View) -> None:
        self._graph, self.node = graph, node
        self.rows, self.views, self.base = of.rows, (*of.views, view), of.base

    def __repr__(self) -> str:
        return f"DerivedTable({self.node.name!r}, key={self.node.key}, value={self.node.value})"


class StreamTable(Hinted, Tabular[K, V], ReadableTable[K, V]):
    """A table of the last value of each key of a stream, or of a join of tables, which alone writes it. Its changes are
    a stream, agents may read it, and streams and tables join it."""

    INSTEAD = dict.fromkeys(OTHER_STEPS, "stream() gives the changes as a stream")

    def __init__(self, graph: Graph, node: TableNode) -> None:
        super().__init__(node.stores[0])
        self._graph, self.node, self.rows, self.base = graph, node, node.stores[0], node


def check_lasting(rows: StoreSpec, call: str) -> None:
    """Raises TopologyError where rows go without a change, as those of windows do."""
    if rows.holds != "rows":
        raise TopologyError(
            f"{call}: {rows.name!r} has a row for each window, which goes when it closes; join a table of its changes, "
            "by a key of their own: stream().rekey(...).to_table(name)"
        )


def check_not_expiring(rows: StoreSpec, call: str) -> None:
    """The same of rows with a TTL."""
    if rows.ttl is not None:
        raise TopologyError(
            f"{call}: rows of {rows.name!r} expire (ttl=) without a change, and what is made of them would stay for "
            "ever: leave ttl= out, or take a table of its changes, which keeps them: stream().to_table(name)"
        )


def check_no_windows(call: str, *keys: Schema, other: str = "a table") -> None:
    """Raises TopologyError where both sides have keys of windows: how they are written is each store's own."""
    if all(any(issubclass(one, Windowed) for one in getattr(key.codec, "accepts", None) or ()) for key in keys):
        raise TopologyError(
            f"{call}: results of windows cannot be joined with {other} yet: give both sides keys of another type "
            "first, by rekey(...)"
        )


def _kept(predicate: Callable[[Any], Any], row: Any) -> Any:
    return row if predicate(row) else None


def _seen(view: View, row: Any) -> Any:
    return None if row is None else view(row)
