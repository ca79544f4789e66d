"""Event time that jumps over more timers than fire in a row goes on by pieces, with commits and other tasks between."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.errors import AbortRequired
from kstream.operators import process
from kstream.runtime.task import overdue
from kstream.testing import TestDriver

SECOND = 1000
FIRINGS = 299
"""Of a timer that sets itself each second, on the way from 1 to 301 s."""


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process, "AT_ONCE", 50)
    monkeypatch.setattr(overdue, "PIECE", 10)
    yield


class Ticks(kstream.Processor[str, str, str]):
    n = kstream.ValueState(int, default=0)

    def process(self, value: str, ctx: Any) -> None:
        if ctx.due() is None:
            ctx.timer(after=timedelta(seconds=1))
        ctx.emit(f"{value} {self.n.value}")

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        self.n.value += 1
        ctx.timer(after=timedelta(seconds=1))
        ctx.emit(f"{self.n.value}", to="ticks")


def app_of(**settings: Any) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("ticks", **settings)
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    ticks = app.topic("tick", key=str, value=str)
    made = app.stream(source).process(Ticks, name="p")
    made.to(out)
    made.side("ticks", value=str).to(ticks)
    return app, source, out, ticks


def committed(driver: TestDriver, topic: str = "out") -> list[str]:
    """Without processing more."""
    return [(record.value or b"").decode().strip('"') for record in driver.cluster.records(topic)]


ALL = [str(n) for n in range(1, FIRINGS + 1)]


@pytest.mark.parametrize("ends", ["commit", "crash", "abort"])
@pytest.mark.parametrize("turns", [1, 2, 7, 15])
def test_a_jump_is_committed_by_pieces_and_each_timer_fires_once(
    ends: str, turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    app, source, out, ticks = app_of()
    with TestDriver(app, partitions=2) as driver:
        driver.send(source, "first", key="k", timestamp=1 * SECOND, partition=0)
        driver.commit()
        driver.cluster.append("in", b"k", b"jump", 301 * SECOND, partition=0)
        for _ in range(turns):
            driver.worker.step()
        driver.cluster.append("in", b"o", b"other", 1 * SECOND, partition=1)
        for _ in range(3):
            driver.worker.step()
        driver.worker.commit_now()
        assert sorted(committed(driver)) == ["first 0", "other 0"], "another task went on, and the jump is not over"
        if ends == "crash":
            driver.crash()
        elif ends == "abort":
            driver.worker.step()
            driver.cluster.faults.plan("producer.commit", AbortRequired("no"), skip=0)
        driver.commit()
        assert [v for v in driver.values(out) if v[0] != "o"] == ["first 0", f"jump {FIRINGS}"]
        assert driver.values(ticks) == ALL
    said = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "fired in a row" in r.getMessage()
    ]
    assert said and "processor 'p', key 'k', timer ''" in said[0] and "on the way to event time 301000" in said[0]


@pytest.mark.parametrize("how", ["records", "idle", "marks"])
def test_whatever_moves_time(how: str) -> None:
    app = kstream.App("ticks")
    a, b = app.topic("a", key=str, value=str), app.topic("b", key=str, value=str)
    out, ticks = app.topic("out", key=str, value=str), app.topic("tick", key=str, value=str)
    before = app.stream(a).merge(app.stream(b))
    if how == "marks":
        before = before.rekey(lambda value: value[0]).repartition(name="r")
    made = before.process(Ticks, name="p")
    made.to(out)
    made.side("ticks", value=str).to(ticks)
    with TestDriver(app, partitions=1, idle_timeout=5.0) as driver:
        driver.send(b, "old", key="k", timestamp=1 * SECOND)
        driver.send(a, "new", key="k", timestamp=301 * SECOND)
        if how == "records":
            driver.send(b, "new", key="k", timestamp=301 * SECOND)
        for _ in range(30):
            driver.advance(1.0)
        driver.send(a, "end", key="k", timestamp=301 * SECOND)
        fired = len(driver.values(ticks))
        assert driver.values(ticks) == [str(n) for n in range(1, fired + 1)] and fired >= FIRINGS
        driver.crash()
        assert len(driver.values(ticks)) == fired


def test_what_many_keys_have_due_at_once_goes_by_pieces_too() -> None:
    class Midnight(kstream.Processor[str, str, str]):
        def process(self, value: str, ctx: Any) -> None:
            ctx.timer(at=100 * SECOND)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(ctx.key)

    app = kstream.App("midnight")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    app.stream(source).process(Midnight, name="p").to(out)
    keys = [f"{n:03}" for n in range(180)]
    with TestDriver(app, partitions=1) as driver:
        for key in keys:
            driver.cluster.append("in", key.encode(), b"x", 1 * SECOND)
        driver.cluster.append("in", b"z", b"x", 101 * SECOND)
        for _ in range(12):
            driver.worker.step()
        driver.worker.commit_now()
        assert 0 < len(committed(driver)) < len(keys)
        driver.crash()
        assert driver.values(out) == keys


def test_one_that_sets_itself_for_the_past_does_not_hold_its_worker() -> None:
    class Endless(kstream.Processor[str, str, str]):
        def process(self, value: str, ctx: Any) -> None:
            ctx.timer(at=10 * SECOND)
            ctx.emit(value)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.timer(at=10 * SECOND)

    app = kstream.App("endless")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    app.stream(source).process(Endless, name="p").to(out)
    with TestDriver(app, partitions=2) as driver:
        driver.send(source, "first", key="k", timestamp=1 * SECOND, partition=0)
        driver.cluster.append("in", b"k", b"jump", 20 * SECOND, partition=0)
        for _ in range(20):
            driver.worker.step()
        driver.cluster.append("in", b"o", b"other", 1 * SECOND, partition=1)
        for _ in range(5):
            driver.worker.step()
        driver.worker.commit_now()
        assert committed(driver) == ["first", "other"]
        driver.close(commit=False)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_timers_that_fail_on_the_way_are_skipped(guarantee: str) -> None:
    made: Any = type("Made", (Ticks,), {"on_timer": failing})
    app = kstream.App("ticks", on_error=[kstream.Skip()], processing_guarantee=guarantee)
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    app.stream(source).process(made, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "first", key="k", timestamp=1 * SECOND)
        driver.send(source, "jump", key="k", timestamp=301 * SECOND)
        driver.commit()
        values = driver.values(out)
        assert [one for one in dict.fromkeys(values)] == ["first 0", *map(str, range(1, 100)), "jump 99"]
        assert guarantee == "at_least_once" or len(values) == 101


def failing(self: Any, timer: kstream.Timer, ctx: Any) -> None:
    if self.n.value == 99:
        raise ValueError("no")
    self.n.value += 1
    ctx.timer(after=timedelta(seconds=1))
    ctx.emit(f"{self.n.value}")
