"""Where the records of a group come from."""

from __future__ import annotations

from kstream.dsl.graph import Graph
from kstream.topology import Node


class Grouping:
    """The records of a group, which it shares with what its windows make of it.

    Args:
        node: emits them, by the key that they are grouped by.
        repartition: the name of the topic through which they go; None: each is at its key's home already.
        parallelism: partitions of that topic; None: as many as the input has.
        group: the isolation group of what comes behind it; None: that of what comes before.
    """

    def __init__(
        self,
        graph: Graph,
        node: Node,
        repartition: str | None = None,
        parallelism: int | None = None,
        group: str | None = None,
    ) -> None:
        self.graph, self._before = graph, node
        self._repartition, self._parallelism, self._group = repartition, parallelism, group
        self._source: Node | None = None

    def node(self) -> Node:
        """The node that emits the grouped records: the repartition topic's source, made once, when first wanted."""
        if self._source is None:
            if self._repartition is None:
                self._source = self._before
            else:
                self._source = self.graph.repartition(self._before, self._repartition, self._parallelism, self._group)
        return self._source

    def isolated(self, group: str) -> Grouping:
        """The same, with what comes behind it in an isolation group, where none was given yet."""
        if self._repartition is None or self._group is not None or self._source is not None:
            return self
        return Grouping(self.graph, self._before, self._repartition, self._parallelism, group)
