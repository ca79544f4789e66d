"""Where records go on: apart, together, through a topic, or by. None of these steps changes a key or a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

from kstream.dsl.functions import called, wants_context
from kstream.dsl.graph import Graph
from kstream.errors import TopologyError
from kstream.looking_nodes import DebugNode, SampleNode
from kstream.runtime.task.context import Context
from kstream.specs.names import check_name, check_partitions
from kstream.specs.schema import UNKNOWN, Schema, told_apart
from kstream.specs.topic import Topic, check_topic
from kstream.topology import BranchNode, MergeNode, Node, RouteNode, WayNode

if TYPE_CHECKING:
    pass

K = TypeVar("K")
V = TypeVar("V")

REST: Final = "rest"
"""The way of the records of which no predicate of a branch is true."""


class Ways(Generic[K, V]):
    """What a stream and its steps are made with: the node that emits it, the graph, and whether its key was changed."""

    def __init__(self, graph: Graph, node: Node, *, rekeyed: bool = False) -> None:
        self.node = node
        self._graph, self._rekeyed = graph, rekeyed

    def branch(self, **predicates: Callable[[V], Any] | Callable[[V, Context[K]], Any]) -> dict[str, Self]:
        """Parts the stream: a record goes the way of the first predicate that is true of it, or the way `rest`.

            ways = orders.branch(large=lambda order: order.amount > 1000, small=lambda order: order.amount < 10)
            ways["large"].to(audits)
            ways["rest"].map(...)

        Returns the streams by the names of their predicates, and "rest". (Kafka Streams' `split().branch()`.)

        Raises:
            TopologyError: there is no predicate, one is called "rest", or cannot be called.
        """
        if not predicates or REST in predicates:
            raise TopologyError(
                f"branch: give each way a name and a predicate, as in branch(large=lambda value: ...); {REST!r} is "
                "that of the records of which none is true"
            )
        for name, function in predicates.items():
            check_name(name, "way")
            called(function, "branch")
        asked = tuple((function, wants_context(function)) for function in predicates.values())
        branch = self._add(BranchNode, "branch", users=tuple(predicates.values()), predicates=asked)
        return {name: self._on(self._add(WayNode, name, parents=(branch,))) for name in (*predicates, REST)}

    def merge(self, *others: Self) -> Self:
        """The records of this stream and of others, as one. Those of one partition keep their order; what lies in
        different topics has none between them. Inputs from several topics need as many partitions each: `repartition`
        gives a stream another number.

        Raises:
            TopologyError: keys or values have different types, or something else is no stream.
        """
        if not others:
            raise TopologyError("merge: give it the other streams")
        for other in others:
            if not isinstance(other, Ways):
                raise TopologyError(f"merge takes streams, not {other!r}: a table's changes are table.stream()")
            self._check_app(other, "merge")
        nodes = (self.node, *(other.node for other in others))
        key, value = _common(nodes, "key"), _common(nodes, "value")
        made = self._add(MergeNode, "merge", parents=nodes, key=key, value=value)
        return self._on(made, rekeyed=self._rekeyed or any(other._rekeyed for other in others))

    def repartition(self, *, name: str | None = None, parallelism: int | None = None, group: str | None = None) -> Self:
        """The records go through a repartition topic, `<app>-<name>-repartition`, to the partitions of their keys.

        Args:
            name: from the declarations before it where none is given.
            parallelism: partitions of that topic, hence tasks behind it; default: as many as the input has.
            group: the isolation group of what comes behind it; default: that of what comes before.
        """
        name = self._graph.group_name(name, self.node, "by-key")
        check_partitions(parallelism, f"repartition {name!r}: parallelism")
        return self._on(self._graph.repartition(self.node, name, parallelism, group), rekeyed=False)

    def through(self, topic: Topic[K, V], *, group: str | None = None) -> Self:
        """Writes the records to a topic and reads them from there.

        Args:
            group: the isolation group of what reads them; default: "default".
        """
        check_topic(topic, "through")
        self._graph.sink(self.node, topic)
        return self._on(self._graph.source(topic, group), rekeyed=False)

    @overload
    def to(self, topic: Topic[K, V]) -> None: ...
    @overload
    def to(self, topic: Callable[[V], Topic[K, V]]) -> None: ...
    @overload
    def to(self, topic: Callable[[V, Context[K]], Topic[K, V]]) -> None: ...
    def to(self, topic: Any) -> None:
        """Writes the records to a topic, in the task's transaction, with their keys and timestamps.

        Args:
            topic: one, or a function that chooses one of the app's topics for each record.
        """
        if isinstance(topic, Topic) or not callable(topic):
            self._graph.sink(self.node, topic)
            return
        called(topic, "to")
        self._add(
            RouteNode,
            "to",
            users=(topic,),
            function=topic,
            wants_context=wants_context(topic),
            topics=self._graph.topics,
        )

    def debug(self, name: str | None = None) -> Self:
        """Logs a line about what comes by, at most every 10 s (INFO): how many records, how many a second, and the
        current one. In production too: it costs nothing per record."""
        made = name or self._graph.child_name(self.node, "debug")
        return self._on(self._add(DebugNode, "debug", name=made), rekeyed=self._rekeyed)

    def sample(self, rate: float, name: str | None = None) -> Self:
        """Passes on a share of the records, chosen by where they lie in their topics: a replay chooses the same.

        Args:
            rate: the share, above 0 and at most 1.
            name: another one makes another choice.

        Raises:
            TopologyError: there is no such share.
        """
        if type(rate) not in (int, float) or not 0 < rate <= 1:
            raise TopologyError(f"sample: rate={rate!r} is no share of the records: give it one above 0, at most 1")
        made = name or self._graph.child_name(self.node, "sample")
        return self._on(self._add(SampleNode, "sample", name=made, rate=float(rate)), rekeyed=self._rekeyed)

    def _check_app(self, other: Ways[Any, Any], call: str) -> None:
        """Raises TopologyError where `call` is given a stream of another app."""
        if other._graph is not self._graph:
            raise TopologyError(f"{call}: {other.node.describe()} is of another app ({other._graph.app})")

    def _on(self, node: Node, *, rekeyed: bool | None = None) -> Self:
        return type(self)(self._graph, node, rekeyed=self._rekeyed if rekeyed is None else rekeyed)

    def _add(self, kind: type[Node], step: str, **fields: Any) -> Node:
        """A node behind this stream, where no other parents are given."""
        name, parent = self._graph.child_name(self.node, step), self.node
        node = kind(**{"name": name, "parents": (parent,), "key": parent.key, "value": parent.value, **fields})
        self._graph.add(node)
        return node


def _common(nodes: Sequence[Node], side: str) -> Schema:
    """The type of all keys or values. What nobody declared is let through."""
    found: dict[Schema, Node] = {getattr(node, side): node for node in nodes}
    known = {schema: node for schema, node in found.items() if schema.kind is not UNKNOWN}
    (first, node), *others = (known or found).items()
    if known and others:
        other, its = others[0]
        theirs, mine = told_apart(other.kind, first.kind)
        raise TopologyError(
            f"merge: {its.describe()} has {side}s of type {theirs}, and {node.describe()} of type {mine}: "
            f"{'map' if side == 'value' else 'rekey'} one of them, with {side}= for its result"
        )
    return first
