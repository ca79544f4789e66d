"""A service in which much may fail, for test_failures.py: workers load it as `broker.failing_service:app`.

Each way to fail has an input of its own, hence a task of its own, all in one worker. In each, the record with number 13
is at fault. Beside them are a count that has nothing to do with any of it, and an agent that waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

import kstream

BAD = 13
LARGE = 50_000
TOO_LARGE = 2_000_000
WAIT = float(os.environ.get("KSTREAM_TEST_WAIT", "2"))


class Reading(msgspec.Struct):
    """`at`: its event time, in ms, as it should be."""

    number: int
    at: int


def make_app(name: str) -> kstream.App:
    app = kstream.App(name, on_error=[kstream.DeadLetter()] if os.environ.get("KSTREAM_TEST_DEAD_LETTERS") else [])

    def source(case: str, **more: Any) -> Any:
        return app.topic(f"{name}.{case}", key=str, value=int, partitions=2, **more)

    def sink(case: str, value: Any = int, **config: str) -> Any:
        return app.topic(f"{name}.{case}-out", key=str, value=value, partitions=2, config=config)

    def readings(case: str) -> Any:
        return app.topic(f"{name}.{case}", key=str, value=Reading, timestamp="at", partitions=2)

    app.stream(source("keyless")).to(sink("keyless", **{"cleanup.policy": "compact"}))
    app.stream(readings("time")).to(sink("time", Reading))
    app.stream(readings("grouped")).group_by(lambda one: "all", key=str, name="by-all").count(name="n").to(
        sink("grouped")
    )
    app.stream(source("sink")).map(lambda n: os.urandom(LARGE if n == BAD else 10), value=bytes).to(
        sink("sink", bytes, **{"max.message.bytes": "10000"})
    )
    app.stream(source("exit")).map(lambda n: sys.exit(1) if n == BAD else n, value=int).to(sink("exit"))
    app.stream(source("denied")).to(sink("denied"))

    large = app.table("large", key=str, value=bytes)
    notes = app.table("notes", key=str, value=bytes)

    @app.agent(source("table"), to=sink("table"))
    def remembers(n: int, ctx: kstream.Context[str]) -> int:
        if n <= BAD:  # a later value of the key, in the same commit, would take its place
            large[ctx.key] = os.urandom(TOO_LARGE if n == BAD else 10)
        return n

    @app.agent(source("changelog"), to=sink("changelog"))
    async def notices(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in stream:
            if n <= BAD:
                notes[ctx.key] = os.urandom(LARGE if n == BAD else 10)
            yield n

    @app.agent(source("leaves"), to=sink("leaves"))
    async def leaves(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            if n == BAD:
                sys.exit(0)
            yield n

    app.stream(source("beside")).group_by_key().count(name="beside").to(sink("beside"))

    @app.agent(source("slow"), to=sink("slow"))
    async def waits(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            with Path(os.environ["KSTREAM_TEST_CALLS"]).open("a") as calls:
                calls.write(f"{n}\n")
            await asyncio.sleep(WAIT)
            yield n

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "failing"))
