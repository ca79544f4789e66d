"""What a step may do with its records, by what lies before and behind it in the topology."""

from __future__ import annotations

from typing import Final

from kstream.operators.base import Operator
from kstream.specs.steps import ASYNC, Step
from kstream.table_nodes import meets
from kstream.topology import (
    AgentNode,
    AggregateNode,
    BranchNode,
    MergeNode,
    Node,
    OutsideNode,
    SinkNode,
    SourceNode,
    StatelessNode,
    SubTopology,
    WayNode,
)

BY_INPUT: Final = (SourceNode, StatelessNode, BranchNode, WayNode, MergeNode, SinkNode)


def leaves_out(node: Node, built: dict[Node, Operator]) -> bool:
    """Whether a step may leave out a record that fails there: nothing was done with it before but by functions of its
    value alone, on a way without a branch. One that uses a table may have changed it. So it is with a result that is
    put out without a record, behind a step that puts out no others."""
    if not isinstance(node, StatelessNode | AggregateNode | AgentNode) or not _of_values(node):
        return False
    if isinstance(node, AgentNode) and node.agent in ASYNC:
        return False
    (parent,) = node.parents
    while isinstance(parent, StatelessNode) and _of_values(parent) and len(built[parent].children) == 1:
        (parent,) = parent.parents
    if isinstance(parent, AggregateNode) and parent.emit == "update":
        return False
    return isinstance(parent, SourceNode | AggregateNode) and len(built[parent].children) == 1


def _of_values(node: StatelessNode | AggregateNode | AgentNode) -> bool:
    """Whether its functions have nothing but values, and its own store."""
    return not node.wants_context and not node.stores[node.own :]


def by_input(part: SubTopology) -> bool:
    """Whether records of several inputs may be pushed by input, as long as what they cause goes out in their order
    (runtime/task/together.py): it only changes, filters and writes them, by functions of their values alone."""
    if len(part.sources) < 2 or part.delays or part.upstream or part.tables:
        return False
    return all(
        isinstance(node, BY_INPUT) and not node.stores and not node.may_send and _is_silent(node) for node in part.nodes
    )


def _is_silent(node: Node) -> bool:
    """What a user sees of a `peek` is in the order in which records are read."""
    if isinstance(node, MergeNode):
        return not meets(node)
    return not isinstance(node, StatelessNode) or node.step is not Step.PEEK


def leads_to_keeping(node: Node, part: SubTopology) -> bool:
    """Whether what this node emits may be kept further on, in a store or in the buffer of a sink, while user code may
    change it: then its children must not share objects, or what one does would show in another, depending on how the
    input was cut."""
    below = {node}
    for other in part.nodes:  # parents come before their children
        if not below.isdisjoint(other.parents):
            below.add(other)
            if other.stores or isinstance(other, OutsideNode):
                return True
    return False
