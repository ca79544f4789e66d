"""A service with a processor and an async agent, whose timers fire in event time and by the clock: workers load it as
`faults.timers_service:app`. Values are event times in ms."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import kstream
from faults import injection

PARTITIONS, AFTER_MS = 2, 500


class Rings(kstream.Processor[str, int, str]):
    """Each record sets an alarm of either clock of its key. The alarms number themselves, by clock."""

    n = kstream.ValueState(int, default=0)
    rang = kstream.MapState(str, int)

    def process(self, at: int, ctx: kstream.ProcessorContext[str, str]) -> None:
        if at < 0:
            return
        self.n.value += 1
        ctx.timer(at=at + AFTER_MS, name=f"event-{self.n.value}")
        ctx.timer(after=timedelta(milliseconds=AFTER_MS), name=f"wall-{self.n.value}", clock="wall")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, str]) -> None:
        self.rang[timer.clock] = self.rang.get(timer.clock, 0) + 1
        ctx.emit(f"{timer.clock} {self.rang[timer.clock]} {timer.name}")


def event_time(at: int) -> Any:
    return abs(at)


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=int, partitions=PARTITIONS, timestamp=event_time)
    rung = app.topic(f"{name}.rung", key=str, value=str, partitions=PARTITIONS)
    app.stream(events).process(Rings, name="rings").to(rung)
    by_agent = app.topic(f"{name}.rung-by-agent", key=str, value=str, partitions=PARTITIONS)
    count = app.table("count", key=str, value=int, default=0)
    rang = app.table("rang", key=str, value=int, default=0, scope="partition")

    @app.agent(events, to=by_agent, tables=[count])
    async def sets(stream: kstream.AgentStream[str, int], ctx: kstream.TimerContext[str]) -> None:
        """As the processor does; and waits in the middle."""
        async for at in stream:
            if at >= 0:
                count[ctx.key] += 1
                ctx.timer(at=at + AFTER_MS, name=f"event-{count[ctx.key]}")
                await asyncio.sleep(0.001)
                ctx.timer(after=timedelta(milliseconds=AFTER_MS), name=f"wall-{count[ctx.key]}", clock="wall")

    @sets.on_timer
    def rings(timer: kstream.Timer, ctx: kstream.TimerContext[str]) -> str:
        of_clock = f"{ctx.key} {timer.clock}"
        rang[of_clock] += 1
        return f"{timer.clock} {rang[of_clock]} {timer.name}"

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "rings"))
injection.install()
