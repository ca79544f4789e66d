"""The topology as it is drawn: topics between the boxes of sub-topologies, operators and their stores inside."""

from __future__ import annotations

from collections.abc import Mapping

from kstream.observe.status import Graph, GraphEdge, GraphNode
from kstream.specs.topic import Topic
from kstream.topology import Node, SinkNode, SourceNode, SubTopology, Topology

Operator = tuple[str, str]
"""Sub-topology and operator, as in the labels of `operator_records_total`."""


class Drawing:
    """`graph`, and by edge the operator whose output goes over it. An operator that reads or writes a topic has the
    topic's node."""

    def __init__(self, topology: Topology) -> None:
        self.graph = Graph(topology.app, [part.name for part in topology.parts], [], [])
        self._carries: dict[str, Operator] = {}
        self._nodes: dict[tuple[str, ...], str] = {}  # by operator
        for part in topology.parts:
            self._add_part(part)

    def rates(self, operators: Mapping[tuple[str, ...], float]) -> dict[str, float]:
        """Records/s by edge, of the rates by operator."""
        return {edge: operators.get(operator, 0.0) for edge, operator in self._carries.items()}

    def failing(self, failures: Mapping[tuple[str, ...], int]) -> dict[str, int]:
        """Failures by node, of those by operator."""
        found: dict[str, int] = {}
        for operator, count in failures.items():
            if (node := self._nodes.get(operator)) is not None:
                found[node] = found.get(node, 0) + count
        return found

    def _add_part(self, part: SubTopology) -> None:
        names = dict(zip(part.nodes, part.operator_names, strict=True))
        ids: dict[Node, str] = {}
        for node in part.nodes:
            if isinstance(node, SourceNode | SinkNode):
                ids[node] = self._add_topic(node.topic)
            else:
                ids[node] = f"{part.name}/{names[node]}"
                stores = [store.name for store in node.stores]
                self.graph.nodes.append(GraphNode(ids[node], node.kind, node.name, part.name, False, stores))
            self._nodes[part.name, names[node]] = ids[node]
        for node in part.nodes:
            for parent in node.parents:
                carries = node if isinstance(node, SinkNode) else parent
                self._add_edge(ids[parent], ids[node], (part.name, names[carries]))
            for topic in () if isinstance(node, SinkNode) else node.writes:
                self._add_edge(ids[node], self._add_topic(topic), (part.name, names[node]))

    def _add_topic(self, topic: Topic[object, object]) -> str:
        name = f"topic:{topic.name}"
        if all(node.id != name for node in self.graph.nodes):
            self.graph.nodes.append(GraphNode(name, "topic", topic.name, None, topic.internal))
        return name

    def _add_edge(self, source: str, target: str, operator: Operator) -> None:
        edge = f"{source} -> {target}"
        while edge in self._carries:  # two sinks of one operator into one topic
            edge += "'"
        self._carries[edge] = operator
        self.graph.edges.append(GraphEdge(edge, source, target))
