"""What a step may do with its records, by what lies before and behind it in the topology."""

from __future__ import annotations

from kstream.operators.base import Operator
from kstream.specs.steps import ASYNC
from kstream.topology import AgentNode, AggregateNode, Node, OutsideNode, SourceNode, StatelessNode, SubTopology


def leaves_out(node: Node, built: dict[Node, Operator]) -> bool:
    """Whether a step may leave out a record that fails there: nothing was done with it before but by functions of its
    value alone, on a way without a branch. One that uses a table may have changed it."""
    if not isinstance(node, StatelessNode | AggregateNode | AgentNode) or not _of_values(node):
        return False
    if isinstance(node, AgentNode) and node.agent in ASYNC:
        return False
    (parent,) = node.parents
    while isinstance(parent, StatelessNode) and _of_values(parent) and len(built[parent].children) == 1:
        (parent,) = parent.parents
    return isinstance(parent, SourceNode) and len(built[parent].children) == 1


def _of_values(node: StatelessNode | AggregateNode | AgentNode) -> bool:
    """Whether its functions have nothing but values, and its own store."""
    return not node.wants_context and not node.stores[node.own :]


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
