"""Tables that are made of streams, and joins of streams with tables and with streams: `to_table` and `join`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, overload

from kstream.dsl.functions import called, wants_context
from kstream.dsl.global_table import GlobalTable, join_global
from kstream.dsl.graph import advice
from kstream.dsl.table import ReadableTable, check_table
from kstream.dsl.tabular import StreamTable, Tabular, check_lasting, check_no_windows
from kstream.dsl.versioned import versions_of
from kstream.dsl.ways import Ways
from kstream.errors import TopologyError
from kstream.runtime.task.context import Context
from kstream.specs.config import check_changelog
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema, told_apart, with_none
from kstream.specs.store import BackendKind, StoreSpec, check_backend
from kstream.specs.topic import Topic
from kstream.table_nodes import AsOfJoinNode, JoinHow, StreamJoinHow, TableJoinNode, TableNode
from kstream.topology import Node

if TYPE_CHECKING:
    from datetime import timedelta

    from kstream.dsl.stream import Stream
    from kstream.specs.within import Apart

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G")

Named = Callable[[V], G | None] | Callable[[V, Context[K]], G | None]
"""Says of a value the key of a global table."""


class Joining(Ways[K, V]):
    """The part of a stream that has to do with tables."""

    @overload
    def to_table(
        self: Joining[K, T | None], name: str | None = None, *, history: timedelta | None = None,
        backend: BackendKind | None = None, changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[K, T]: ...  # fmt: skip
    @overload
    def to_table(
        self, name: str | None = None, *, history: timedelta | None = None,
        backend: BackendKind | None = None, changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[K, V]: ...  # fmt: skip
    def to_table(
        self,
        name: str | None = None,
        *,
        history: timedelta | None = None,
        backend: BackendKind | None = None,
        changelog: Mapping[str, str] | None = None,
    ) -> StreamTable[Any, Any]:
        """A table of the last value of each key; the value None deletes the key. What comes last in a partition counts,
        whatever its timestamp; with `history` what has the latest timestamp. (Kafka Streams' `builder.table` and
        `toTable`, its versioned tables.)

        A record without a key is left out, counted and logged. Where the key was changed by `rekey`, records travel to
        its home first, through `<app>-<name>-repartition`.

        Args:
            name: of the table and its changelog `<app>-<name>-changelog`: give one, and keep it.
            history: what was valid so long before the time of the task is kept, too, in the store `<name>-versions`: a
                stream that is joined finds what was valid at its record's time. A record that comes later than that
                after its time is left out, counted and logged.
            backend: where what is committed lies: "rocksdb", "memory" or "file"; None: where the setting says.
            changelog: Kafka's topic settings for the changelog, for when it is created.

        Raises:
            TopologyError: the name is taken, or cannot be one, or `history` can be none.
        """
        made = self._graph.child_name(self.node, "table") if name is None else name
        kept = 0 if history is None else whole_milliseconds(history, f"table {made!r}: history=", least=1)
        config = check_changelog(changelog, f"table {made!r}: changelog")
        check_backend(backend, f"table {made!r}")
        before = self.at_home(made)
        rows = with_none(before.value)
        spec = StoreSpec(made, before.key, rows, changelog=config, backend=backend)
        stores = (spec,) if not kept else (spec, versions_of(spec))
        for one in stores:
            self._graph.store(one, "table", advice(name))
        node = TableNode(name=made, parents=(before,), key=before.key, value=rows, stores=stores, history=kept)
        self._graph.add(node)
        return StreamTable(self._graph, node)

    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V, T], R], *, within: Apart, grace: timedelta,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V, T, Context[K]], R], *, within: Apart, grace: timedelta,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V, T | None], R], *, within: Apart, grace: timedelta,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V, T | None, Context[K]], R], *, within: Apart, grace: timedelta,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V | None, T | None], R], *, within: Apart, grace: timedelta,
        how: Literal["outer"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: Stream[K, T], joiner: Callable[[V | None, T | None, Context[K]], R], *, within: Apart,
        grace: timedelta, how: Literal["outer"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T], R], *,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T, Context[K]], R], *,
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T | None], R], *,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: ReadableTable[K, T] | Tabular[K, T], joiner: Callable[[V, T | None, Context[K]], R], *,
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: GlobalTable[G, T], joiner: Callable[[V, T], R], *, on: Named[V, G, K],
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: GlobalTable[G, T], joiner: Callable[[V, T, Context[K]], R], *, on: Named[V, G, K],
        how: Literal["inner"] = "inner", name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: GlobalTable[G, T], joiner: Callable[[V, T | None], R], *, on: Named[V, G, K],
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    @overload
    def join(
        self, other: GlobalTable[G, T], joiner: Callable[[V, T | None, Context[K]], R], *, on: Named[V, G, K],
        how: Literal["left"], name: str | None = None, value: Kind[R] | None = None,
    ) -> Stream[K, R]: ...  # fmt: skip
    def join(
        self,
        other: Stream[Any, Any] | ReadableTable[Any, Any] | Tabular[Any, Any],
        joiner: Callable[..., Any],
        *,
        on: Callable[..., Any] | None = None,
        within: Apart | None = None,
        grace: timedelta | None = None,
        how: StreamJoinHow = "inner",
        name: str | None = None,
        value: Any = None,
    ) -> Stream[Any, Any]:
        """Each record with what another stream or a table has of its key.

        Of a table: what it has when the record is processed; of one with a `history` what it had at the record's time
        (Flink's temporal join, Kafka Streams' join with a versioned table). Only records of this stream give results; a
        change of the table gives none. (Kafka Streams' stream-table join, null keys as since KIP-962.)

        Of a global table: what it has in the worker when the record is processed, of any key. There are no partitions
        to be equal, and nothing travels. (Kafka Streams' join with a GlobalKTable.)

        Of a stream: the records whose times are `within` so much of its own, whichever comes first. A result has the
        later of the two times. (Kafka Streams' stream-stream join, as since 3.1; Flink's interval join.)

        The topics of both sides need as many partitions each. Where a key was changed by `rekey`, records travel to
        its home first, through `<app>-<name>-repartition` (of two streams `<name>-left` and `<name>-right`), made with
        as many as the other side's topic has.

        Args:
            joiner: takes both values, and the context where it has a third parameter. What it is given of the other
                side is a copy.
            on: of a global table: says of a value of this stream, and of the context where it has a second parameter,
                the key of the table; None: there is none. Without it, it is the record's own.
            within: how far the time of the other stream's record may be from this one's: either way, or (before,
                after). A pair (0, 30 minutes) is for others that come up to 30 minutes after. A `Tumbling`: records
                of one window are joined.
            grace: of two streams: by how much records may come later than the time of their task. Until `within` and
                `grace` have passed, records are kept, and left and outer joins wait for others.
            how: "inner": a record that finds nothing gives nothing. "left": it is joined with None, and so is one
                without a key; where the other side is a stream, once no other can come any more. "outer", of two
                streams: so is each of the other's. A record without a value gives nothing; what is left out for want
                of a key or a value, and late ones that find nothing, are counted and logged.
            name: of the repartition topics, where there are any; of two streams of the stores `<name>-left` and
                `<name>-right`, too: give one, and keep it.
            value: the type of the results, where the joiner's annotation does not say.

        Raises:
            TopologyError: there is no such `how`, the keys' types differ, what is joined is another app's, a table has
                scope="partition", or `within` and `grace` are missing, can be none, or stand with a table.
        """
        call = called(joiner, "join")
        if isinstance(other, GlobalTable) and within is None and grace is None:
            found: Any = self._on(join_global(self._graph, self.node, other, joiner, on, how, name, value))
            return found  # type: ignore[no-any-return]
        if on is not None and not isinstance(other, GlobalTable):
            raise TopologyError(
                f"{call}: on= is for a global table; to join another one, or a stream, by a key of your choice, give "
                "this stream that key first: rekey(...)"
            )
        if isinstance(other, Joining):
            from kstream.dsl.joined import join_streams

            self._check_app(other, call)
            keys = other.node.key if self._rekeyed and self.node.key.kind is UNKNOWN else self.node.key
            both = join_streams(self._graph, self, other, keys, joiner, within, grace, how, name, value)
            joined: Any = type(self)(self._graph, both)
            return joined  # type: ignore[no-any-return]
        if isinstance(other, Topic):
            raise TopologyError(f"{call}: topic {other.name!r} is read as a stream: join app.stream(topic)")
        if within is not None or grace is not None:
            raise TopologyError(
                f"{call}: within= and grace= are for two streams; a table is joined as it is when a record comes"
            )
        if not isinstance(other, Tabular):
            check_table(other, "join")
        spec, views = (other.rows, other.views) if isinstance(other, Tabular) else (other.spec, ())
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
        before = self.at_home(made, spec.key, f"table {spec.name!r}", call)
        table = other.base if isinstance(other, Tabular) else None
        own = (spec,) if table is None else table.stores
        history = table.history if table is not None else 0
        kind: Any = partial(AsOfJoinNode, history=history) if history else TableJoinNode
        node = kind(
            name=made,
            parents=(before,),
            key=before.key,
            value=schema(value or returned_by(joiner), f"the result of {call}"),
            stores=own,
            users=(joiner, *views),
            joiner=joiner,
            wants_context=wants_context(joiner, 2),
            how=cast("JoinHow", how),
            views=views,
        )
        self._graph.add(node)
        joined = type(self)(self._graph, node)
        return joined  # type: ignore[no-any-return]

    def at_home(self, name: str, keys: Schema | None = None, other: str = "", call: str = "") -> Node:
        """The node that emits the records where their keys belong. (Of kstream's own.)

        Args:
            name: of the repartition topic, where there is one.
            keys: as `other` has them, which is joined by `call`.
        """
        node = self.node
        if keys is not None and keys.codec is not node.key.codec and not (self._rekeyed and node.key.kind is UNKNOWN):
            check_no_windows(call, node.key, keys, other="a table" if other.startswith("table ") else "a stream")
            mine, theirs = told_apart(node.key.kind, keys.kind)
            raise TopologyError(
                f"{call}: {node.describe()} has keys of type {mine}, and {other} of type {theirs}: a key has one "
                "home only where both have the same type"
            )
        if not self._rekeyed:
            return node
        made = self._graph.group_name(name, node, "")
        return self._graph.repartition(node, made, None, None, keys)
