"""The event loop of a worker turns when it has something to do, not when a record comes."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import kstream
from kstream.errors import KStreamError
from kstream.runtime.process.lifespan import watched
from kstream.runtime.worker import eventloop
from kstream.runtime.worker.eventloop import SETTLE_SECONDS, SLICE_SECONDS, EventLoop
from kstream.runtime.worker.loop import StreamWorker
from kstream.testing import TestDriver


@pytest.fixture
def events() -> Iterator[EventLoop]:
    """One that has run before."""
    loop = EventLoop()
    loop.asyncio.run_until_complete(nothing())
    loop.settle()
    yield loop
    if not loop.asyncio.is_closed():
        loop.close()


async def nothing() -> None:
    return


def until(what: Callable[[], Any], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends


def test_a_loop_that_nobody_uses_is_never_in_the_way() -> None:
    events = EventLoop()
    assert not events.settle()
    assert events.patience(60.0) == 60.0
    assert not events.has_work
    events.close()


def test_all_that_is_ready_runs_and_what_that_makes_ready(events: EventLoop) -> None:
    steps: list[int] = []

    async def many() -> None:
        for n in range(100):
            steps.append(n)
            await asyncio.sleep(0)

    task = events.asyncio.create_task(many())
    until(lambda: not events.settle())
    assert task.done() and steps == list(range(100))
    assert events.patience(0.001) == 0.001


def test_what_never_ends_gets_its_share_and_no_more(events: EventLoop) -> None:
    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    task = events.asyncio.create_task(spins())
    began = time.thread_time()
    assert events.settle()
    assert time.thread_time() - began < 10 * SETTLE_SECONDS
    assert events.patience(60.0) == 0.0 and events.has_work
    task.cancel()


def test_the_next_timer_bounds_what_may_be_waited_for(events: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventloop, "SLICE_SECONDS", 100.0)  # a timer within the real one may be over before it is seen
    called: list[int] = []
    events.asyncio.call_later(30, called.append, 2)
    events.settle()
    assert 0.0 < events.patience(60.0) <= 30 and not events.has_work
    events.asyncio.call_later(0.002, called.append, 1)
    events.settle()
    until(lambda: called or (events.has_work and events.settle()))
    assert called == [1] and not events.has_work


def test_a_timer_further_off_than_a_slice_is_seen_in_time(events: EventLoop) -> None:
    events.asyncio.call_later(60, print)
    events.settle()
    assert events.patience(60.0) == SLICE_SECONDS and not events.has_work


def test_what_a_single_turn_leaves_ready_is_work(events: EventLoop) -> None:
    steps: list[int] = []
    events.asyncio.call_soon(lambda: events.asyncio.call_soon(steps.append, 1))
    events.asyncio.call_soon(events.asyncio.stop)
    events.asyncio.run_forever()
    assert steps == [] and events.has_work and events.patience(60.0) == 0.0
    events.settle()
    assert steps == [1] and not events.has_work


def test_what_comes_from_a_socket_is_work(events: EventLoop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        read: list[bytes] = []
        events.asyncio.add_reader(ours, lambda: read.append(ours.recv(9)))
        events.settle()
        assert not events.has_work
        theirs.send(b"x")
        assert events.has_work
        assert events.settle()
        assert read == [b"x"] and not events.has_work
        events.asyncio.remove_reader(ours)


def test_what_comes_from_another_thread_is_work(events: EventLoop) -> None:
    async def elsewhere() -> int:
        return await asyncio.to_thread(threading.get_ident)

    task = events.asyncio.create_task(elsewhere())
    events.settle()
    until(lambda: task.done() or (events.has_work and events.settle() and task.done()))
    assert task.result() != threading.get_ident()


def test_what_still_runs_at_the_end_is_cancelled(events: EventLoop) -> None:
    ends: list[str] = []

    async def runs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ends.append("cancelled")

    task = events.asyncio.create_task(runs())
    events.settle()
    events.close()
    assert ends == ["cancelled"] and task.cancelled()


# ---- in a worker


def agent_of(body: Callable[..., Any]) -> tuple[TestDriver, Any]:
    app = kstream.App("events")
    source = app.topic("in", key=str, value=int, partitions=1)
    app.agent(source, name="agent")(body)
    return TestDriver(app), source


def test_what_an_agent_started_goes_on_without_a_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tasks = []

    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async def later() -> None:
            await asyncio.sleep(0.02)
            logging.getLogger("user").info("later")

        async for _ in stream:
            tasks.append(asyncio.get_running_loop().create_task(later()))

    driver, source = agent_of(agent)
    with driver:
        driver.send(source, 1, key="k")
        until(lambda: driver.worker.step() or "later" in caplog.text)


def test_a_task_of_the_lifespan_does_not_wait_for_polls() -> None:
    app = kstream.App("events")
    app.agent(app.topic("in", key=str, value=int, partitions=1), name="agent")(lambda value: None)
    tasks = []

    async def many() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    @app.lifespan
    async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
        tasks.append(asyncio.get_running_loop().create_task(many()))
        yield

    with TestDriver(app) as driver:
        steps = 0
        while not tasks[0].done():
            driver.worker.step()
            steps += 1
        assert steps < 20  # one, on a machine that is not busy


def test_an_agent_that_fails_between_records_stops_its_task_at_once() -> None:
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        while True:
            try:
                await asyncio.wait_for(anext(stream), 0.01)
            except TimeoutError:
                raise ConnectionError("no answer") from None

    driver, source = agent_of(agent)
    with pytest.raises(KStreamError, match="task in/0: agent 'agent' failed between records: ConnectionError") as found:
        driver.send(source, 1, key="k")
        until(driver.worker.step)  # type: ignore[func-returns-value]
    assert isinstance(found.value.__cause__, ConnectionError)
    driver.close(commit=False)


def test_a_lifespan_that_fails_at_its_end_keeps_nothing_open_and_hides_no_other_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = kstream.App("events")
    app.agent(app.topic("in", key=str, value=int, partitions=1), name="agent")(lambda value: None)
    started = []

    @app.lifespan
    async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
        started.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))
        second = len(started) == 2
        yield
        if second:
            raise ConnectionError("the pool does not close")

    with TestDriver(app) as driver:
        worker = StreamWorker(replace(driver.worker.parts, lifespan=watched(resources)))

        def fail(_: StreamWorker) -> None:
            raise ValueError("the first error")

        with pytest.raises(ValueError, match="the first error"):
            worker.run(fail)
        assert started[-1].cancelled() and worker.events.asyncio.is_closed()
        assert "the lifespan failed after its yield" in caplog.text
