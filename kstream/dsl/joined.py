"""Two streams that are joined by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from kstream.codecs.buffered import part_codec, place_codec
from kstream.dsl.functions import called, wants_context
from kstream.dsl.graph import Graph, advice
from kstream.dsl.joins import Joining
from kstream.errors import TopologyError
from kstream.specs.layout import BOTH_SIDES, NOTED
from kstream.specs.schema import Schema, returned_by, schema
from kstream.specs.store import StoreSpec
from kstream.specs.within import Within, within_of
from kstream.table_nodes import StreamJoinHow, StreamJoinNode
from kstream.topology import Node


def join_streams(
    graph: Graph,
    left: Joining[Any, Any],
    right: Joining[Any, Any],
    keys: Schema,
    joiner: Callable[..., Any],
    within: Any,
    grace: Any,
    how: StreamJoinHow,
    name: str | None,
    value: Any,
) -> StreamJoinNode:
    """The node of `left.join(right, ...)`, with a store for each side. Raises as that.

    An inner join of a stream with itself has one store: what each side keeps is the same. A left or outer one has two,
    for a record of each side is to know by itself whether it found another.

    Args:
        keys: the type of the keys of both.
    """
    call = called(joiner, "join")
    if how not in get_args(StreamJoinHow):
        raise TopologyError(f"{call}: how={how!r} is neither 'inner', 'left' nor 'outer'")
    apart = within_of(within, grace, call)
    made = graph.child_name(left.node, "join") if name is None else name
    first = left.at_home(f"{made}-left", keys)
    itself = right.node is left.node
    second = first if itself else right.at_home(f"{made}-right", keys, left.node.describe(), call)
    parents: tuple[Node, ...] = (first, second)
    specs: tuple[StoreSpec, ...] = (
        _kept(f"{made}-left", first, apart, noted=how != "inner"),
        _kept(f"{made}-right", second, apart, noted=how == "outer"),
    )
    if itself and how == "inner":
        kept = specs[0]
        parents, specs = (first,), (replace(kept, layout=kept.layout + BOTH_SIDES),)
    for spec in specs:
        graph.store(spec, "join", advice(name))
    node = StreamJoinNode(
        name=made,
        parents=parents,
        key=first.key,
        value=schema(value or returned_by(joiner), f"the result of {call}"),
        stores=specs,
        users=(joiner,),
        joiner=joiner,
        wants_context=wants_context(joiner, 2),
        how=how,
        within=apart,
    )
    graph.add(node)
    return node


def _kept(name: str, node: Node, within: Within, *, noted: bool) -> StoreSpec:
    """The store of one side. Its types are those of the records, for it is they that a later version has to read.

    Args:
        noted: it is noted of each record whether it found one.
    """
    keys = Schema(node.key.kind, place_codec(node.key.codec))
    layout = within.layout + (NOTED if noted else "")
    return StoreSpec(name, keys, Schema(node.value.kind, part_codec(node.value.codec)), holds="buffers", layout=layout)
