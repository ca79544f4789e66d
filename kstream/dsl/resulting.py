"""Aggregations whose results are something else than what they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from kstream.dsl.graph import Graph
from kstream.dsl.stream import AggregateTable
from kstream.specs.schema import Schema
from kstream.specs.steps import Step
from kstream.topology import AggregateNode

K = TypeVar("K")
R = TypeVar("R")
D = TypeVar("D")


class ResultTable(AggregateTable[K, R]):
    """The result of an aggregation which keeps more than that: agents, streams and tables see results, queries and
    `kstream table` what is kept."""

    def __init__(self, graph: Graph, node: Any, result: Callable[[Any], R], value: Schema) -> None:
        super().__init__(graph, cast("AggregateNode", node))
        self._result = result
        self.node: Any = graph.step(node, Step.MAP, result, None, value)
        self.views = (result,)

    def shown(self, value: Any) -> Any:
        return self._result(value)

    def __getitem__(self, key: K) -> R:
        return self._result(super().__getitem__(key))

    @overload
    def get(self, key: K) -> R | None: ...
    @overload
    def get(self, key: K, default: D) -> R | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        kept = super().get(key)
        return default if kept is None else self._result(kept)
