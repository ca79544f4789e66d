"""Aggregations whose results are something else than what they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from kstream.dsl.graph import Graph
from kstream.dsl.sessions import SessionTable
from kstream.dsl.stream import AggregateTable
from kstream.specs.schema import Schema
from kstream.specs.sessions import OpenSession
from kstream.specs.steps import Step
from kstream.topology import AggregateNode

K = TypeVar("K")
R = TypeVar("R")
T = TypeVar("T")
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


class SessionResults(SessionTable[K, R, T]):
    """The same of an aggregation over sessions."""

    def __init__(self, graph: Graph, node: Any, result: Callable[[Any], R], value: Schema) -> None:
        super().__init__(graph, cast("AggregateNode", node))
        self._result = result
        self.node: Any = graph.step(node, Step.MAP, _of_some(result), None, value)

    def shown(self, value: Any) -> Any:
        return [OpenSession(one.start, one.end, self._result(one.value)) for one in value]

    def __getitem__(self, key: K) -> list[OpenSession[R]]:
        return cast("list[OpenSession[R]]", self.shown(super().__getitem__(key)))

    @overload
    def get(self, key: K) -> list[OpenSession[R]] | None: ...
    @overload
    def get(self, key: K, default: D) -> list[OpenSession[R]] | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        kept = super().get(key)
        return default if kept is None else self.shown(kept)


def _of_some(result: Callable[[Any], R]) -> Callable[[Any], R | None]:
    """None, which takes a result back, stays None."""

    def told(kept: Any) -> R | None:
        return None if kept is None else result(kept)

    return told
