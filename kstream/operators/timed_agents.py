"""From the node of an agent with timers to its operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kstream.operators.agent import Results
from kstream.operators.base import Operator
from kstream.operators.dropping import Lines
from kstream.operators.process import Process
from kstream.operators.timed_agent import AgentTimers, TimedFunctionAgent
from kstream.operators.timed_async_agent import TimedAsyncAgent
from kstream.operators.user_processor import ProcessorCursor
from kstream.specs.steps import AgentKind
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.timers import TimerStore
from kstream.state.watermark import Watermark
from kstream.topology import AgentNode

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context as ContextVars


def timed_agent(
    node: AgentNode,
    stores: Mapping[str, Store[Any]],
    results: Results,
    cursor: Callable[[], ProcessorCursor],
    variables: Callable[[Any], ContextVars],
    loop: asyncio.AbstractEventLoop,
    time: Watermark | None,
    wall: TaskTime | None,
    lines: Lines,
) -> Operator:
    """Args:
    cursor: makes a context; `variables` the context variables of what is an async agent's own.
    """
    own, *used = (stores[spec.name] for spec in node.stores)
    assert isinstance(own, TimerStore) and node.on_timer is not None
    on_timer, ctx = node.on_timer, cursor()
    if node.agent in (AgentKind.FUNCTION, AgentKind.GENERATOR):
        return TimedFunctionAgent(
            node.name, on_timer, ctx, node.key.codec, results, own, time, wall, lines, tables=used,
            process=(node.function, node.agent is AgentKind.GENERATOR),
        )  # fmt: skip
    alarms = AgentTimers(
        node.name, on_timer, ctx, node.key.codec, results, own, time, wall, lines, variables=variables(ctx)
    )
    mine = cursor()
    agent = TimedAsyncAgent(
        node.name, node.function, mine, results, used, loop, variables(mine), wants_context=True, timeout=node.timeout,
        alarms=alarms,
    )  # fmt: skip
    mine.processor = agent
    return agent


def processor_of(operator: Operator) -> Process | None:
    """What fires its timers, or would; None where it is neither a processor nor an agent with timers."""
    if isinstance(operator, Process):
        return operator
    return operator.alarms if isinstance(operator, TimedAsyncAgent) else None
