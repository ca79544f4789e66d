"""Tables that each worker has whole, and joins of streams with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, get_args

from kstream.dsl.functions import called, wants_context
from kstream.dsl.graph import Graph
from kstream.dsl.hints import FOLDS, STEPS, Hinted
from kstream.dsl.table import ReadableTable
from kstream.errors import TableError, TopologyError
from kstream.global_nodes import GlobalJoinNode
from kstream.specs.global_table import GlobalSpec
from kstream.specs.schema import UNKNOWN, returned_by, schema, with_none, without_none
from kstream.specs.topic import Topic, check_topic
from kstream.table_nodes import JoinHow
from kstream.topology import Node

K = TypeVar("K")
V = TypeVar("V")

_OF_STREAMS = "a global table is only looked up: app.stream(topic) gives the records of its topic"


class GlobalTable(Hinted, ReadableTable[K, V]):
    """The last value of each key of a topic, of all its partitions, in each worker. Read only. (Kafka Streams'
    `GlobalKTable`.)

    Any function of the app looks up any key, and streams join it by a key of their choice. What `items`, `range`,
    `prefix` and the others give is of all partitions. Each value that is read is an object of the reader's own.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys((*STEPS, *FOLDS, "stream", "to", "map_values", "suppress"), _OF_STREAMS),
        "join": "a stream is joined with a global table: stream.join(table, joiner, on=...)",
    }

    def _key_of(self, raw: bytes) -> K:
        try:
            return super()._key_of(raw)
        except TableError as error:
            assert isinstance(self.spec, GlobalSpec)
            raise TableError(
                f"global {error}; topic {self.spec.topic.name} has keys that it is not declared to have: delete such "
                "rows there (a record of that key without a value), or declare what its keys are"
            ) from error.__cause__


def declare(graph: Graph, topic: Topic[Any, Any], name: str | None) -> GlobalTable[Any, Any]:
    """Raises TopologyError where there can be no such table."""
    check_topic(topic, "app.global_table")
    made = graph.names.declared(topic) if name is None else name
    other = next((one for one in graph.stores if isinstance(one, GlobalSpec) and one.topic is topic), None)
    if other is not None:
        raise TopologyError(
            f"topic {topic.name!r} is global table {other.name!r} already: declare it once and share the object"
        )
    if graph.topics.get(topic.name) is not topic:
        raise TopologyError(f"global table {made!r}: topic {topic.name!r} is of another app")
    spec = GlobalSpec(made, topic.key, with_none(topic.value), topic=topic)
    graph.store(spec, "global table", "give it a name=")
    graph.declared()
    return GlobalTable(spec)


def join_global(
    graph: Graph,
    parent: Node,
    table: GlobalTable[Any, Any],
    joiner: Callable[..., Any],
    on: Callable[..., Any] | None,
    how: str,
    name: str | None,
    value: Any,
) -> GlobalJoinNode:
    """The node of `stream.join(table, joiner, on=...)`. Raises as that."""
    call, spec = called(joiner, "join"), table.spec
    assert isinstance(spec, GlobalSpec)
    if how not in get_args(JoinHow):
        raise TopologyError(f"{call}: how={how!r} is neither 'inner' nor 'left'")
    if not any(one is spec for one in graph.stores):
        raise TopologyError(f"{call}: global table {spec.name!r} is of another app")
    on_wants_context = False
    if on is None:
        if parent.key.codec is not spec.key.codec:
            raise TopologyError(
                f"{call}: {parent.describe()} has keys of type {parent.key}, and global table {spec.name!r} of type "
                f"{spec.key}: say the key of the table by on="
            )
    else:
        called(on, "join")
        on_wants_context = wants_context(on)
        declared = without_none(returned_by(on))
        if declared is not UNKNOWN and (given := schema(declared, "on=", key=True)).codec is not spec.key.codec:
            raise TopologyError(
                f"{call}: on= gives keys of type {given}, and global table {spec.name!r} has keys of type {spec.key}"
            )
    node = GlobalJoinNode(
        name=graph.child_name(parent, "join") if name is None else name,
        parents=(parent,),
        key=parent.key,
        value=schema(value or returned_by(joiner), f"the result of {call}"),
        users=(joiner,) if on is None else (joiner, on),
        tables=(spec,),
        table=spec,
        on=on,
        on_wants_context=on_wants_context,
        joiner=joiner,
        wants_context=wants_context(joiner, 2),
        left=how == "left",
    )
    graph.add(node)
    return node
