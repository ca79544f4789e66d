"""Asynchronous code on a real Kafka that has nothing to say: the app runs in this process, within an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import kstream
from kstream.config import Settings
from support.kafka import write
from support.running import prepare


def test_what_runs_in_the_background_does_not_wait_for_records(bootstrap_servers: str, tmp_path: Path) -> None:
    """A task that an agent starts, and one of the lifespan; the app is within a running event loop, and is stopped by a
    signal."""
    app = kstream.App(f"async-{uuid.uuid4().hex[:8]}")
    source = app.topic(f"{app.name}.in", key=str, value=int, partitions=1)
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path), workers=0)
    tasks: list[asyncio.Task[None]] = []
    took: dict[str, float] = {}
    started: asyncio.Event = asyncio.Event()

    @app.lifespan
    async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
        tasks.append(asyncio.get_running_loop().create_task(watch()))
        yield

    async def watch() -> None:
        try:
            await asyncio.wait_for(started.wait(), 60)
            await asyncio.sleep(1)  # all is quiet
            began = time.monotonic()
            for _ in range(100):
                await asyncio.sleep(0)
            took["100 turns"] = time.monotonic() - began
            await tasks[1]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            tasks.append(asyncio.get_running_loop().create_task(later(time.monotonic())))
            started.set()

    async def later(began: float) -> None:
        await asyncio.sleep(2)
        took["2 s"] = time.monotonic() - began

    async def main() -> int:
        return app.run(settings=settings)

    prepare(app, settings)
    write(bootstrap_servers, source.name, [("k", b"1", round(time.time() * 1000))])
    assert asyncio.run(main()) == 0
    assert took["100 turns"] < 5.0  # milliseconds, on a machine that is not busy; one a poll would be ten seconds
    assert 2.0 <= took["2 s"] < 15.0  # with the next record, or at the end, it would be 26 s
