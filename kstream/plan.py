"""What one task runs: its stores and operators, made from its sub-topology and put together. `making.py` makes each
operator."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kstream.codecs import SAMPLE
from kstream.foreign_nodes import AloneNode
from kstream.making import Contexts, Maker
from kstream.neighbours import by_input, leads_to_keeping, leaves_out
from kstream.operators.async_agent import AsyncAgent
from kstream.operators.base import Cursor, Operator, Outlet, Push, with_tables
from kstream.operators.bounds import NONE, Bounds
from kstream.operators.closing import Closing
from kstream.operators.joins.foreign import Subscribe
from kstream.operators.marks import TimeWriter
from kstream.operators.merge import Merge
from kstream.operators.process import Process
from kstream.operators.refusals import Refusals
from kstream.operators.source import Source
from kstream.operators.timed_agents import processor_of
from kstream.operators.told import Teller, Telling
from kstream.operators.upsert import Upsert
from kstream.operators.writer import DirectWriter, OrderedWriter, Writer
from kstream.processor_nodes import SideNode
from kstream.specs.steps import ASYNC
from kstream.specs.ttl import FOREVER
from kstream.state.backend import Backend
from kstream.state.expiring import ExpiringStore
from kstream.state.large import Large
from kstream.state.making import make_store
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.watermark import Watermark
from kstream.table_nodes import RetractNode, step_of
from kstream.topology import AgentNode, Node, SubTopology

if TYPE_CHECKING:
    import asyncio

_NONE: Mapping[str, Store[Any]] = {}


@dataclass(slots=True)
class TaskPlan:
    """What one task runs: operators in topological order, entered by topic."""

    stores: dict[str, Store[Any]]
    writer: Writer
    one_at_a_time: bool
    cursor: Cursor = field(repr=False)
    sources: dict[str, Source] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    agents: list[AsyncAgent] = field(default_factory=list)
    time: TaskTime | None = None
    """Where some of its state has a TTL, or it keeps event time."""
    watermark: Watermark | None = None
    """Where it has windows, or tells others the time."""
    time_writer: TimeWriter | None = None
    step: int = 1
    """Milliseconds within which it does not matter which input is read first."""
    by_input: bool = False
    """Whether records of several inputs may be pushed by input (`neighbours.by_input`)."""
    tellers: list[Teller] = field(default_factory=list)
    """Of the steps that put out results without a record."""

    def committed(self) -> None:
        """What was done is committed, and in the stores."""
        for operator in self.operators:
            operator.committed()

    def reset(self) -> None:
        """After an abort: everything since the last commit is forgotten."""
        self.cursor.faults.clear()
        for operator in self.operators:  # first: agents run on until they are stopped, and may clear up then
            operator.reset()
        for teller in self.tellers:
            teller.reset()
        self.writer.reset()
        for store in self.stores.values():
            store.aborted()

    def closes_by(self, time: int) -> bool:
        """Whether there is something to do if it were this event time (ms)."""
        return any(isinstance(one, Closing) and one.closes_by(time) for one in self.operators)

    def waits(self) -> bool:
        """Whether there would be at some time."""
        return self.closes_by(FOREVER)

    @property
    def timed(self) -> list[ExpiringStore[Any]]:
        """The stores that have one."""
        return [store for store in self.stores.values() if isinstance(store, ExpiringStore)]

    @property
    def processors(self) -> list[Process]:
        """Those of agents with timers, too."""
        return [one for operator in self.operators if (one := processor_of(operator)) is not None]


def plan_task(
    part: SubTopology,
    *,
    backend: Backend,
    outlet: Outlet,
    contexts: Contexts,
    loop: asyncio.AbstractEventLoop,
    cache_bytes: int,
    check_every: int = SAMPLE,
    bounds: Bounds = NONE,
    verify: bool = False,
    around: Callable[[Node, Operator, Push], Push] | None = None,
    time: TaskTime | None = None,
    large_entry: int = sys.maxsize,
    on_large_state: Callable[[Any, Any], Any] | None = None,
    refusals: Refusals | None = None,
    partition: int = 0,
    counts: Mapping[str, int] | None = None,
    lease: float = math.inf,
    tables: Mapping[str, Store[Any]] = _NONE,
) -> TaskPlan:
    """Builds the operators and stores of one task.

    Args:
        cache_bytes: object cache of all stores of the task together.
        check_every: of how many values that are written one is compared with what a reader gets.
        bounds: those of an input record.
        verify: stores check that what was read was not changed in place (TestDriver).
        time: what time it is for stores with a TTL.
        large_entry: bytes from which an entry of state is large; `on_large_state` is the app's function for those of
            stores that have none.
        refusals: what Kafka is known to refuse.
        partition: of the task; `counts`: how many partitions topics have.
        lease: seconds for which it is believed that a task before is idle.
        tables: the worker's global tables, by name.
        around: gives what is called instead of a push of an operator (traces); None: nothing is put in between.
    """
    share = cache_bytes // max(1, len(part.stores))
    stores: dict[str, Store[Any]] = {
        spec.name: make_store(spec, backend, time, cache_bytes=share, check_every=check_every, verify=verify)
        for spec in part.stores
    }
    for store in stores.values():
        store.large = Large(large_entry, store.spec.on_large or on_large_state)
    if not part.tells_time and all(spec.ttl is None for spec in part.stores):
        time = None
    by_event = part.by_event or any(spec.ttl is not None and spec.ttl.time == "event" for spec in part.stores)
    clock = time if by_event else None  # whose event time a record moves; one far ahead fails
    ordered = time if part.tells_time and not by_event else None
    watermark = _watermark(part, counts or {}, time, lease)
    writer = _writer(part, outlet, refusals)
    # of others nothing would take care that they are used one record at a time
    whole = {spec.name: tables[spec.name] for spec in part.tables}
    visible = whole | {spec.name: stores[spec.name] for node in part.nodes for spec in node.stores[node.own :]}
    shared = contexts.new(visible, writer, 0)
    plan = TaskPlan(
        stores, writer, part.one_at_a_time, shared, time=time, watermark=watermark, step=step_of(part),
        by_input=by_input(part),
    )  # fmt: skip
    if part.carries:
        assert watermark is not None and counts is not None
        held = max((node.timing.held for node in part.by_time), default=0)
        topics = {topic: counts[topic] for topic in part.carries}
        plan.time_writer = TimeWriter(topics, partition, held, watermark, plan.waits)
    maker = Maker(
        {**tables, **stores}, visible, writer, contexts, loop, check_every, bounds, clock, ordered, watermark, time
    )
    built: dict[Node, Operator] = {}
    for order, node in enumerate(part.nodes):
        # one that it does not declare would show it what others did with a whole batch
        mine = (
            visible if part.one_at_a_time else {one.name: stores[one.name] for one in node.stores[node.own :]} | whole
        )
        operator = built[node] = maker.operator(node, order, mine)
        for place, parent in enumerate(node.parents):
            push = operator.input(place)
            if node.users and visible and not part.one_at_a_time:
                push = with_tables(shared, mine, push)
            giver = built[parent]
            _children(giver, node).append(push if around is None else around(node, operator, push))
        if isinstance(operator, Source):
            plan.sources[operator.topic.name] = operator
            plan.sources |= {one.topic: operator for one in part.delays if one.source == operator.topic.name}
        if isinstance(operator, AsyncAgent):
            plan.agents.append(operator)
        if isinstance(operator, Telling):
            plan.tellers.append(operator.teller)
            operator.teller.writer = writer
        plan.operators.append(operator)
    for source in {id(one): one for one in plan.sources.values()}.values():
        source.windows = [operator for operator in plan.operators if isinstance(operator, Closing)]
        source.waiting = [operator for operator in plan.operators if isinstance(operator, Merge | Closing)]
    for node, operator in built.items():
        operator.leaves_out = leaves_out(node, built)
        operator.isolates = len(operator.children) > 1 and leads_to_keeping(node, part)
    return plan


def _children(giver: Operator, node: Node) -> list[Push]:
    """Where what gives to a node has it."""
    if isinstance(node, RetractNode) and isinstance(giver, Upsert):
        return giver.pairs
    if isinstance(node, AloneNode) and isinstance(giver, Subscribe):
        return giver.alone
    if isinstance(node, SideNode) and isinstance(giver, Process):
        return giver.side(node.output)
    return giver.children


def _writer(part: SubTopology, outlet: Outlet, refusals: Refusals | None) -> Writer:
    if part.merges_outputs or by_input(part):
        return OrderedWriter(outlet, refusals)
    holds = any(isinstance(node, AgentNode) and node.agent in ASYNC for node in part.nodes)
    return DirectWriter(outlet, refusals, holds=holds)


def _watermark(part: SubTopology, counts: Mapping[str, int], time: TaskTime | None, lease: float) -> Watermark | None:
    if not part.tells_time or time is None:
        return None
    bounds = {one.topic.name: one.topic.out_of_order for one in part.sources if not one.topic.internal}
    upstream = {topic: counts[before] for topic, before in part.upstream.items()}
    by_clock = [one.topic.name for one in part.sources if one.topic.idle_advance]
    return Watermark(bounds, upstream, lease, time.clock.monotonic, by_clock)
