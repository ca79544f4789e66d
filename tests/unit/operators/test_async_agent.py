"""The stream of an async agent: who may ask for the next record, and which one is at hand when something is yielded."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import kstream
from kstream.errors import KStreamError, ProcessingError
from kstream.operators.turns import turn
from kstream.runtime.worker import eventloop
from kstream.testing import TestDriver

Agents = Callable[..., Any]


def driven(agent: Agents, *values: int, waiting: float = 0.0, **settings: Any) -> tuple[TestDriver, Any, Any]:
    """A driver of one agent, to which these records have been appended, with the keys k0, k1, ..."""
    app = kstream.App("agents")
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int | None)
    app.agent(source, to=out if inspect.isasyncgenfunction(agent) else None, name="agent")(agent)
    driver = TestDriver(app, partitions=1, **settings)
    for n, value in enumerate(values):
        driver.cluster.append(source.name, b"k%d" % n, b"%d" % value)
    return driver, source, out


def pairs(driver: TestDriver, topic: Any) -> list[tuple[Any, Any]]:
    return [(record.key, record.value) for record in driver.records(topic)]


def pass_time(driver: TestDriver, until: Callable[[], Any]) -> None:
    """The event loop turns, without a record, until something is so."""

    async def turn() -> None:
        while not until():
            await asyncio.sleep(0.001)

    driver.worker.events.asyncio.run_until_complete(asyncio.wait_for(turn(), 10))


# ---- the record at hand


async def yields_before(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
    yield -1
    async for n in stream:
        yield n


async def yields_a_record_before(stream: kstream.AgentStream[str, int]) -> AsyncIterator[Any]:
    yield kstream.Record("own", 1)
    async for n in stream:
        yield n


@pytest.mark.parametrize("agent", [yields_before, yields_a_record_before])
def test_a_yield_before_the_first_record_is_an_error(agent: Agents) -> None:
    driver, _, out = driven(agent, 1, 2)
    with pytest.raises(ProcessingError, match=r"in\[0\] offset 0: .*agent 'agent' yielded .* while it had no record"):
        driver.process()
    assert driver.cluster.records(out.name) == []
    driver.close(commit=False)


def test_none_may_be_yielded_at_any_time() -> None:
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int | None]:
        yield None
        async for n in stream:
            yield n

    driver, _, out = driven(agent, 1)
    assert pairs(driver, out) == [("k0", 1)]
    driver.close()


@pytest.mark.parametrize("events", [False, True])
def test_a_record_after_a_time_out_is_taken(events: bool) -> None:
    times: list[str] = []

    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        records: Any = aiter(stream.events() if events else stream)
        while True:
            try:
                got = await asyncio.wait_for(anext(records), 0.01)
            except TimeoutError:
                times.append("out")
            else:
                yield got.value if events else got

    driver, source, out = driven(agent)
    for n in range(3):
        driver.send(source, n, key=f"k{n}")
        times.clear()
        pass_time(driver, lambda: times)
    assert pairs(driver, out) == [("k0", 0), ("k1", 1), ("k2", 2)]
    driver.close()


def test_no_record_is_lost_to_a_time_out_that_comes_with_it() -> None:
    """The agent is cancelled after the record was handed over and before it has taken it."""
    tasks: list[asyncio.Task[Any]] = []

    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        yield await anext(stream)
        while True:
            tasks.append(asyncio.ensure_future(anext(stream)))
            await asyncio.wait(tasks[-1:])
            if not tasks[-1].cancelled():
                yield tasks[-1].result()

    driver, source, out = driven(agent)
    driver.send(source, 0, key="k0")
    (task,) = driver.worker.tasks.values()
    pushed = task.plan.agents[0]
    feed = pushed._stream.feed

    def feed_and_cancel(batch: Any) -> None:
        feed(batch)
        tasks[-1].cancel()

    pushed._stream.feed = feed_and_cancel  # type: ignore[method-assign]
    driver.send(source, 1, key="k1")
    assert len(tasks) == 3
    assert pairs(driver, out) == [("k0", 0), ("k1", 1)]
    driver.close()


def test_a_yield_after_a_time_out_has_no_record_at_hand() -> None:
    """It is no record's failure: the task stops without naming one, and nothing is looked for by replay."""

    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        while True:
            try:
                yield await asyncio.wait_for(anext(stream), 0.01)
            except TimeoutError:
                yield -1

    driver, _, out = driven(agent, 0)
    with pytest.raises(
        KStreamError, match=r"task in/0: agent 'agent' failed between records: .* yielded -1 while it had no record"
    ):
        while True:
            driver.worker.step()
    assert driver.worker.aborts == 1
    assert driver.cluster.records(out.name) == []
    driver.close(commit=False)


def test_tables_and_the_context_cannot_be_used_between_records() -> None:
    """What is written there would belong to no record: nothing would commit it, and nothing would do it again."""
    app = kstream.App("agents")
    source = app.topic("in", key=str, value=int, partitions=1)
    table = app.table("seen", key=str, value=int)
    errors: list[KStreamError] = []

    @app.agent(source, tables=[table])
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        while True:
            try:
                table[ctx.key] = await asyncio.wait_for(anext(stream), 0.01)
            except TimeoutError:
                for use in (lambda: table.get("k0"), lambda: table.__setitem__("k0", 1), lambda: ctx.key):
                    try:
                        use()
                    except KStreamError as error:
                        errors.append(error)

    with TestDriver(app) as driver:
        driver.send(source, 1, key="k0")
        pass_time(driver, lambda: errors)
        driver.send(source, 2, key="k0")
        assert driver.table(table)["k0"] == 2
    assert [str(error) for error in errors[:3]] == [
        "table 'seen' was used between records: tables can be read and written only while a record is processed",
    ] * 2 + ["the context is valid only while a record is processed"]


# ---- who asks


def several_loops(wait: Callable[[Any], Any]) -> tuple[Agents, list[int]]:
    taken: list[int] = []

    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async def loop() -> None:
            while True:
                taken.append(await wait(stream))
                await asyncio.sleep(0)  # something outside

        await asyncio.gather(*[loop() for _ in range(4)])

    return agent, taken


@pytest.mark.parametrize("records", [0, 1, 2, 9])
@pytest.mark.parametrize("wait", [anext, lambda stream: asyncio.wait_for(anext(stream), 5)], ids=["plain", "timed"])
def test_several_loops_over_one_stream_are_an_error_and_nothing_is_acknowledged(
    wait: Callable[[Any], Any], records: int
) -> None:
    agent, _ = several_loops(wait)
    driver, source, _ = driven(agent, *range(records))
    with pytest.raises(KStreamError, match=r"agent 'agent' asks .* in more than one loop") as caught:
        driver.process()
        driver.send(source, 0, key="k")
    if isinstance(caught.value, ProcessingError):  # else it came to light between two records
        assert caught.value.offset == 0
    assert [task.positions for task in driver.worker.tasks.values()] == [{("in", 0): 0}]
    assert driver.cluster.group("agents").offsets == {}
    driver.close(commit=False)


def test_a_loop_that_waits_beside_one_that_works_acknowledges_nothing() -> None:
    """Two loops, one record: the second asks while the first is still at it."""
    gates: list[asyncio.Future[None]] = []

    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async def loop() -> None:
            async for _ in stream:
                gates.append(asyncio.get_running_loop().create_future())
                await gates[-1]

        await asyncio.gather(loop(), loop())

    driver, _, _ = driven(agent, 7)
    with pytest.raises(ProcessingError, match=r"agent 'agent' asks .* in more than one loop"):
        driver.process()
    driver.close(commit=False)


def test_a_second_ask_while_one_is_waiting_is_an_error() -> None:
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            asks = [asyncio.ensure_future(anext(stream)) for _ in range(2)]
            await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
            for ask in asks:
                if ask.done():
                    ask.result()

    driver, _, _ = driven(agent, 7)
    with pytest.raises(KStreamError, match=r"agent 'agent' asks .* in more than one loop"):
        while True:
            driver.worker.step()
    driver.close(commit=False)


def test_the_loop_may_be_in_a_task_of_its_own_and_be_handed_on() -> None:
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async def three() -> None:
            for _ in range(3):
                taken.append(await anext(stream))

        while True:
            await asyncio.create_task(three())

    taken: list[int] = []
    driver, _, _ = driven(agent, *range(9))
    driver.commit()
    assert taken == list(range(9))
    driver.close()


def test_a_loop_that_outlives_its_agent_takes_nothing_from_the_next() -> None:
    """After an abort the agent starts anew; what it left running still holds the stream of before."""
    errors: list[BaseException] = []
    loops: set[asyncio.Task[None]] = set()
    gate: list[asyncio.Future[None]] = []
    taken: list[int] = []

    async def left(stream: kstream.AgentStream[str, int]) -> None:
        try:
            async for n in stream:
                taken.append(n)
                gate.append(asyncio.get_running_loop().create_future())
                await gate[-1]
        except BaseException as error:
            errors.append(error)
            raise

    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        if not loops:
            loops.add(asyncio.get_running_loop().create_task(left(stream)))
            await asyncio.get_running_loop().create_future()
        async for n in stream:
            taken.append(10 + n)

    driver, source, _ = driven(agent, 1)
    while not gate:
        driver.worker.step()
    (task,) = driver.worker.tasks.values()
    driver.worker._consumer.seek(task.rewind())
    driver.commit()
    assert taken == [1, 11]
    gate[0].set_result(None)
    pass_time(driver, lambda: all(loop.done() for loop in loops))
    assert [loop.exception() for loop in loops] == errors
    assert isinstance(errors[0], KStreamError) and "agent 'agent' was started again" in str(errors[0])
    driver.send(source, 2, key="k")
    driver.commit()
    assert taken == [1, 11, 12]
    driver.close()


async def tries_for_ever(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
    while True:
        try:
            async for n in stream:
                await asyncio.sleep(0)
                yield n
        except BaseException:  # its own cancellation too
            pass


def test_an_agent_that_catches_everything_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask a closed stream again and again, and never let go of the event loop."""
    monkeypatch.setattr(eventloop, "CANCEL_SECONDS", 0.1)  # it does not end by itself: all of that is waited for, twice
    driver, source, out = driven(tries_for_ever, 1)
    driver.commit()
    driver.crash()
    driver.send(source, 2, key="k")
    assert [value for _, value in pairs(driver, out)] == [1, 2]
    driver.close()


def test_a_second_loop_fails_its_agent_though_it_catches_the_refusal() -> None:
    """What it caught would be known to nobody. It tries for ever, and lets others work meanwhile."""
    taken: list[int] = []

    async def second(stream: kstream.AgentStream[str, int]) -> None:
        while True:
            try:
                async for n in stream:
                    taken.append(n)
            except KStreamError:
                pass

    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        other = None
        try:
            async for n in stream:
                other = other or asyncio.create_task(second(stream))
                await asyncio.sleep(0.001)
                yield n
        finally:
            if other is not None:
                other.cancel()

    driver, _, out = driven(agent, 1, 2, 3)
    with pytest.raises(ProcessingError, match=r"offset 0: .* in more than one loop"):
        driver.process()
    assert driver.cluster.records(out.name) == []
    assert taken == []
    driver.close(commit=False)


@pytest.mark.parametrize("records", [1, 2])
def test_nothing_is_acknowledged_once_a_second_loop_has_asked(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom the event loop turns before the worker looks at the agent again."""
    agent, taken = several_loops(anext)
    driver, _, _ = driven(agent, *range(records))
    monkeypatch.setattr(driver.worker.committer, "wait_for_agents", lambda _: turn(driver.worker.events.asyncio))
    with pytest.raises(ProcessingError, match="offset 0: "):
        while True:
            driver.worker.step()
    assert set(taken) == {0}
    assert driver.cluster.group("agents").offsets == {}
    driver.close(commit=False)


async def cancels_itself(stream: kstream.AgentStream[str, int]) -> None:
    async for _ in stream:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


async def is_cancelled(stream: kstream.AgentStream[str, int]) -> None:
    async for _ in stream:
        raise asyncio.CancelledError


@pytest.mark.parametrize("agent", [cancels_itself, is_cancelled])
def test_an_agent_that_is_cancelled_says_so(agent: Agents) -> None:
    driver, _, _ = driven(agent, 1)
    with pytest.raises(ProcessingError, match="agent 'agent' was cancelled"):
        driver.process()
    driver.close(commit=False)
