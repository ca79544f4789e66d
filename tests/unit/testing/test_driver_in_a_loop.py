"""The TestDriver where an event loop runs already: in async tests, in notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError
from kstream.testing import TestDriver


def doubling(**more: Any) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("looped")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    table = app.table("last", key=str, value=int)

    @app.agent(source, to=out)
    async def double(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for event in stream.events():
            await asyncio.sleep(0)
            table[event.key] = event.value
            yield 10 // event.value

    return app, source, out, table


def uses(driver: TestDriver, source: Any, out: Any, table: Any) -> None:
    driver.send(source, 1, key="a")
    assert driver.values(out) == [10]
    driver.send(source, 2, key="a")
    driver.commit()
    driver.crash()
    driver.advance(seconds=5)
    assert driver.values(out) == [10, 5]
    assert dict(driver.table(table)) == {"a": 2}
    with pytest.raises(ProcessingError, match="ZeroDivisionError"):
        driver.send(source, 0, key="a")


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_all_of_it_works_within_a_running_loop(backend: str) -> None:
    app, *topics = doubling()

    async def main() -> None:
        with TestDriver(app, partitions=1, backend=backend) as driver:
            uses(driver, *topics)
            driver.close(commit=False)

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == before


def test_a_driver_made_outside_is_used_inside_and_the_other_way_round() -> None:
    app, *topics = doubling()
    driver = TestDriver(app, partitions=1)

    async def inside(call: Callable[[], Any]) -> Any:
        return call()

    driver.send(topics[0], 5, key="b")
    asyncio.run(inside(lambda: driver.send(topics[0], 2, key="b")))
    assert driver.values(topics[1]) == [2, 5]
    asyncio.run(inside(driver.close))


def test_a_lifespan_runs_there_too() -> None:
    app = kstream.App("looped")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    ends: list[str] = []

    @app.lifespan
    async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        worker.state.factor = 3
        yield
        ends.append("released")

    @app.agent(source, to=out)
    def times(value: int, ctx: kstream.Context[str]) -> int:
        return value * int(ctx.worker.state.factor)

    async def main() -> list[int]:
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, 2, key="a")
            return driver.values(out)

    assert asyncio.run(main()) == [6]
    assert ends == ["released"]
