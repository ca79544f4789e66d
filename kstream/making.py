"""From a node of the topology to its operator."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context as ContextVars
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from kstream.foreign_nodes import ForeignNode
from kstream.global_nodes import GlobalJoinNode
from kstream.looking_nodes import DebugNode, SampleNode
from kstream.operators.agent import FunctionAgent, Results
from kstream.operators.aggregations import aggregation
from kstream.operators.async_agent import AsyncAgent
from kstream.operators.base import Cursor, Operator
from kstream.operators.batching_sink import SinkWriter
from kstream.operators.bounds import Bounds
from kstream.operators.branch import Branch, Pass
from kstream.operators.deduplicate import Deduplicate
from kstream.operators.dropping import Lines
from kstream.operators.joins.global_table import global_join
from kstream.operators.joins.self_join import SelfJoin
from kstream.operators.joins.stream_stream import StreamStreamJoin
from kstream.operators.late import LateTopic
from kstream.operators.looking import Debug, Sample, Watched
from kstream.operators.merge import Merge
from kstream.operators.processors import processor
from kstream.operators.route import Route
from kstream.operators.sink import Sink
from kstream.operators.source import Source
from kstream.operators.stateless import Filter, FlatMap, Map, Peek, Rekey, Stateless
from kstream.operators.tables import of_tables
from kstream.operators.timed_agents import timed_agent
from kstream.operators.user_processor import ProcessorCursor
from kstream.operators.writer import Writer
from kstream.processor_nodes import ProcessNode
from kstream.specs.steps import ASYNC, AgentKind, Step
from kstream.state.buffers import BufferStore
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.watermark import Watermark
from kstream.table_nodes import (
    DeduplicateNode,
    RetractNode,
    StreamJoinNode,
    TableChangeNode,
    TableJoinNode,
    TableNode,
    meets,
)
from kstream.topology import (
    AgentNode,
    AggregateNode,
    BranchNode,
    MergeNode,
    Node,
    OutsideNode,
    RouteNode,
    SinkNode,
    SourceNode,
    StatelessNode,
    WayNode,
    with_all_before,
)

if TYPE_CHECKING:
    import asyncio

_STATELESS: dict[Step, type[Stateless]] = {
    Step.MAP: Map,
    Step.FILTER: Filter,
    Step.FLAT_MAP: FlatMap,
    Step.PEEK: Peek,
    Step.REKEY: Rekey,
}

_LINES: WeakKeyDictionary[Node, Lines] = WeakKeyDictionary()
"""Of each aggregation, table and join: its tasks log together."""

_WATCHED: WeakKeyDictionary[Node, Watched] = WeakKeyDictionary()
"""Of each `debug`: the same."""


class Contexts(Protocol):
    """Makes the contexts of a task (the runtime's own; operators only move them)."""

    def new(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> Cursor: ...
    def processing(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> ProcessorCursor: ...
    def timing(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> ProcessorCursor: ...
    def variables(self, cursor: Cursor) -> ContextVars: ...


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the operators of one task.

    Attributes:
        stores: of the task, and the worker's global tables.
        visible: those of them that user code may use.
        check_every: of how many values that are written one is compared with what a reader gets.
        bounds: those of an input record.
        clock: whose event time a record moves; one far ahead fails. None: no state asks for it.
        ordered: the same where time is only told to others.
        watermark: where the task has windows, or tells others the time.
        time: where some of its state has a TTL, or it keeps event time.
    """

    stores: Mapping[str, Store[Any]]
    visible: dict[str, Store[Any]]
    writer: Writer
    contexts: Contexts
    loop: asyncio.AbstractEventLoop
    check_every: int
    bounds: Bounds
    clock: TaskTime | None
    ordered: TaskTime | None
    watermark: Watermark | None
    time: TaskTime | None

    def operator(self, node: Node, order: int, tables: dict[str, Store[Any]]) -> Operator:
        """
        Args:
            order: the node's number in its sub-topology: outputs go out by it where several nodes write to a topic.
            tables: those that the node's functions may use.
        """
        stores, writer, every = self.stores, self.writer, self.check_every

        def cursor() -> Cursor:
            return self.contexts.new(tables, writer, order)

        match node:
            case SourceNode():
                return Source(node.topic, self.bounds, self.clock, self.watermark, self.ordered)
            case SinkNode():
                return Sink(node.topic, writer, order, every)
            case OutsideNode():
                return SinkWriter(node.sink, self.loop)
            case StatelessNode():
                context = cursor() if node.wants_context else None
                return _STATELESS[node.step](node.function, context, node.key.codec, node.value.codec)
            case BranchNode():
                return Branch([(function, cursor() if context else None) for function, context in node.predicates])
            case WayNode():
                return Pass()
            case MergeNode():
                # a record of any topic may move time to what comes late
                return Merge(meets=meets(node) or any(one.timing.late for one in with_all_before(node)))
            case DebugNode():
                return Debug(_WATCHED.setdefault(node, Watched(node.name)))
            case SampleNode():
                return Sample(node.name, node.rate)
            case RouteNode():
                return Route(node, cursor() if node.wants_context else None, writer, order, every)
            case AggregateNode():
                late = None if node.late is None else LateTopic(node.late, writer, order, every)
                return aggregation(
                    node, stores[node.stores[0].name], cursor() if node.wants_context else None, _lines(node),
                    self.watermark, late, every,
                )  # fmt: skip
            case DeduplicateNode():
                return Deduplicate(node, stores[node.stores[0].name], self.watermark, _lines(node))
            case GlobalJoinNode():
                return global_join(node, stores[node.table.name], cursor, _lines(node))
            case TableNode() | RetractNode() | TableChangeNode() | TableJoinNode() | ForeignNode():
                context = cursor() if node.may_send else None
                return of_tables(node, stores, context, _lines(node), self.watermark, every)
            case StreamJoinNode():
                return self._joined(node, cursor() if node.wants_context else None)
            case ProcessNode():
                context = self.contexts.processing(self.visible, writer, order)
                return processor(node, stores, context, self.watermark, self.time, _lines(node), every)
            case AgentNode():
                return self._agent(node, order, tables)
        raise AssertionError(node)

    def _joined(self, node: StreamJoinNode, context: Cursor | None) -> Operator:
        left, right = (self.stores[one.name] for one in (node.stores[0], node.stores[len(node.parents) - 1]))
        assert isinstance(left, BufferStore) and isinstance(right, BufferStore)
        assert self.watermark is not None and self.clock is not None
        join = SelfJoin if len(node.parents) == 1 else StreamStreamJoin
        return join(
            node.name, (left, right), (node.parents[0].value.codec, node.parents[-1].value.codec), node.key.codec,
            node.value.codec, node.within, node.joiner, context, _lines(node),
            keeps=(node.how != "inner", node.how == "outer"), meets=meets(node), watermark=self.watermark,
            time=self.clock, every=self.check_every,
        )  # fmt: skip

    def _agent(self, node: AgentNode, order: int, tables: dict[str, Store[Any]]) -> Operator:
        contexts, results = self.contexts, Results(node.to, self.writer, order, node.name, self.check_every)
        if node.on_timer is not None:
            return timed_agent(
                node, self.stores, results, partial(contexts.timing, tables, self.writer, order), contexts.variables,
                self.loop, self.watermark, self.time, _lines(node),
            )  # fmt: skip
        used = [self.stores[spec.name] for spec in node.stores[node.own :]]
        if node.agent in ASYNC:
            own = contexts.new(tables, self.writer, order)
            return AsyncAgent(
                node.name, node.function, own, results, used, self.loop, contexts.variables(own),
                wants_context=node.wants_context, timeout=node.timeout,
            )  # fmt: skip
        context = contexts.new(tables, self.writer, order) if node.wants_context else None
        return FunctionAgent(node.function, context, results, used, many=node.agent is AgentKind.GENERATOR)


def _lines(node: Node) -> Lines:
    return _LINES.setdefault(node, Lines(node.name))
