"""The TestDriver processes until the app rests: as long as something moves, but not for ever."""

from __future__ import annotations

import asyncio
from itertools import count
from types import SimpleNamespace

import pytest

import kstream
from kstream.errors import KStreamError
from kstream.testing import TestDriver, driver


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn of the workers takes a second."""
    seconds = count(0.0)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


def test_a_machine_may_be_slow_while_something_moves() -> None:
    """Seen on a busy one: 180 records took more than the ten seconds that there were for all of them."""
    app = kstream.App("slow")
    numbers, out = (app.topic(name, key=str, value=int, partitions=1) for name in ("numbers", "out"))
    app.stream(numbers).to(out)
    with TestDriver(app, poll_batch=1) as d:
        for n in range(40):
            d.cluster.append("numbers", b"k", b"%d" % n)
        assert d.values(out) == list(range(40))


def test_an_agent_that_waits_for_ever_is_told() -> None:
    app = kstream.App("waits")
    numbers = app.topic("numbers", key=str, value=int, partitions=1)

    @app.agent(numbers)
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            await asyncio.Event().wait()

    d = TestDriver(app)
    with pytest.raises(KStreamError, match="does not come to rest: does an agent wait for something outside"):
        d.send(numbers, 1, key="k")
    d.close(commit=False)


def test_an_app_that_gives_itself_work_for_ever_is_told() -> None:
    app = kstream.App("endless")
    numbers = app.topic("numbers", key=str, value=int, partitions=1)

    @app.agent(numbers)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        ctx.send(numbers, n + 1)

    d = TestDriver(app, processing_guarantee="at_least_once")  # it sees what is not committed
    with pytest.raises(KStreamError, match="does not come to rest"):
        d.send(numbers, 1, key="k")
    d.close(commit=False)
