"""What a processor gives."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from kstream.dsl.stream import Stream
from kstream.errors import TopologyError
from kstream.processor_nodes import ProcessNode, SideNode
from kstream.specs.names import check_name
from kstream.specs.schema import Kind, schema

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


class Processed(Stream[K, V]):
    """The results of a processor; those that went elsewhere are in its side outputs."""

    def side(self, name: str, *, value: Kind[R]) -> Stream[K, R]:
        """What the processor has emitted with `to=name`: a stream of its own. (Flink's side outputs.)

            late = app.stream(orders).process(Sessions, name="sessions").side("late", value=Order)

        Args:
            value: the type of these results.

        Raises:
            TopologyError: it is declared already, or this is not what a processor gives.
        """
        node = self.node
        if not isinstance(node, ProcessNode):
            raise TopologyError(f"side({name!r}): {node.describe()} is no processor: ask what process(...) returned")
        check_name(name, "side output")
        if name in node.sides:
            raise TopologyError(f"processor {node.name!r} has a side output {name!r} already: use what it returned")
        kind = schema(cast("Any", value), f"side output {name!r} of processor {node.name!r}")
        made = SideNode(
            name=f"{node.name}-{name}", parents=(node,), key=node.key, value=kind, output=name
        )  # fmt: skip
        node.sides[name] = made
        self._graph.add(made)
        return Stream(self._graph, made)
