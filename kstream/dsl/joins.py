"""Tables that are made of streams, and what is looked up in tables: `to_table` and `join`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, overload

from kstream.dsl.functions import called, wants_context
from kstream.dsl.graph import advice
from kstream.dsl.table import ReadableTable, check_table
from kstream.dsl.tabular import StreamTable, Tabular, check_lasting, check_no_windows
from kstream.dsl.uses import tables_used
from kstream.dsl.ways import Ways
from kstream.errors import TopologyError
from kstream.runtime.task.context import Context
from kstream.specs.config import check_changelog
from kstream.specs.schema import UNKNOWN, Kind, returned_by, schema, with_none
from kstream.specs.store import BackendKind, StoreSpec, check_backend
from kstream.table_nodes import JoinHow, TableJoinNode, TableNode
from kstream.topology import Node

if TYPE_CHECKING:
    from kstream.dsl.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R")


class Joining(Ways[K, V]):
    """The part of a stream that has to do with tables."""

    @overload
    def to_table(
        self: Joining[K, T | None], name: str | None = None, *, backend: BackendKind | None = None,
        changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[K, T]: ...  # fmt: skip
    @overload
    def to_table(
        self, name: str | None = None, *, backend: BackendKind | None = None,
        changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[K, V]: ...  # fmt: skip
    def to_table(
        self,
        name: str | None = None,
        *,
        backend: BackendKind | None = None,
        changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[Any, Any]:
        """A table of the last value of each key; the value None deletes the key. What comes last in a partition counts,
        whatever its timestamp. (Kafka Streams' `builder.table` and `toTable`.)

        A record without a key is left out, counted and logged. Where the key was changed by `rekey`, records travel to
        its home first, through `<app>-<name>-repartition`.

        Args:
            name: of the table and its changelog `<app>-<name>-changelog`: give one, and keep it.
            backend: where what is committed lies: "rocksdb", "memory" or "file"; None: where the setting says.
            changelog: Kafka's topic settings for the changelog, for when it is created.

        Raises:
            TopologyError: the name is taken, or cannot be one.
        """
        made = self._graph.child_name(self.node, "table") if name is None else name
        config = check_changelog(changelog, f"table {made!r}: changelog")
        check_backend(backend, f"table {made!r}")
        before = self._at_home(made, None)
        rows = with_none(before.value)
        spec = StoreSpec(made, before.key, rows, changelog=config, backend=backend)
        self._graph.store(spec, "table", advice(name))
        node = TableNode(name=made, parents=(before,), key=before.key, value=rows, stores=(spec,))
        self._graph.add(node)
        return StreamTable(self._graph, node)

    @overload
    def join(
        self, table: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T], R], *,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, table: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T, Context[K]], R], *,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, table: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T | None], R], *,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, table: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T | None, Context[K]], R], *,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    def join(
        self,
        table: ReadableTable[Any, Any] | Tabular[Any, Any],
        joiner: Callable[..., Any],
        *,
        how: JoinHow = "inner",
        name: str | None = None,
        value: Any = None,
    ) -> Stream[Any, Any]:
        """Each record with what the table has of its key when the record is processed. Only records of the stream give
        results; a change of the table gives none. (Kafka Streams' stream-table join, null keys as since KIP-962.)

        The topics of both sides need as many partitions each. Where the key was changed by `rekey`, records travel to
        its home first, through `<app>-<name>-repartition`, made with as many as the table's topic has.

        Args:
            joiner: takes the record's value and the table's, and the context where it has a third parameter. What it is
                given of the table is a copy.
            how: "inner": a record whose key the table does not have gives nothing. "left": it is joined with None, and
                so is a record without a key. A record without a value gives nothing; what is left out for want of a
                key or a value is counted and logged.
            name: of the repartition topic, where there is one.
            value: the type of the results, where the joiner's annotation does not say.

        Raises:
            TopologyError: there is no such `how`, the keys' types differ, or the table is another app's or has
                scope="partition".
        """
        call = called(joiner, "join")
        if not isinstance(table, Tabular):
            check_table(table, "join")
        spec, views = (table.rows, table.views) if isinstance(table, Tabular) else (table.spec, ())
        if how not in get_args(JoinHow):
            raise TopologyError(f"{call}: how={how!r} is neither 'inner' nor 'left'")
        if not self._graph.has_store(spec.name):
            raise TopologyError(f"{call}: table {spec.name!r} is of another app")
        check_lasting(spec, call)
        if spec.scope != "keyed":
            raise TopologyError(
                f"{call}: table {spec.name!r} has scope='partition': a key's entry may be in any partition of it"
            )
        made = self._graph.child_name(self.node, "join") if name is None else name
        before = self._at_home(made, spec, call)
        node = TableJoinNode(
            name=made,
            parents=(before,),
            key=before.key,
            value=schema(value or returned_by(joiner), f"the result of {call}"),
            stores=(spec, *(one.spec for one in tables_used(joiner, *views) if one.spec is not spec)),
            joiner=joiner,
            wants_context=wants_context(joiner, 2),
            how=how,
            views=views,
        )
        self._graph.add(node)
        joined: Any = type(self)(self._graph, node)
        return joined  # type: ignore[no-any-return]

    def _at_home(self, name: str, table: StoreSpec | None, call: str = "") -> Node:
        """The node that emits the records where their keys belong, with keys as the table has them."""
        keys = None if table is None else table.key
        node = self.node
        if keys is not None and keys.codec is not node.key.codec and not (self._rekeyed and node.key.kind is UNKNOWN):
            assert table is not None
            check_no_windows(call, node.key, keys)
            raise TopologyError(
                f"{call}: {node.describe()} has keys of type {node.key}, and table {table.name!r} of type {keys}: a "
                "key has one home only where both have the same type"
            )
        if not self._rekeyed:
            return node
        made = self._graph.group_name(name, node, "")
        return self._graph.repartition(node, made, None, None, keys)
