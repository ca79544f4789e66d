"""While a task waits to try a timer again, time stands: what the timer emits is not late, and a crash loses nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.runtime.process.reporting import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.testing import TestDriver

SECOND = 1000


class Sets(kstream.Processor[str, str, str]):
    """A timer at each second that a record names; so many fail first."""

    failures: list[int]

    def process(self, value: str, ctx: Any) -> None:
        if value.isdigit():
            ctx.timer(at=int(value) * SECOND, name=value)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        if self.failures[0] > 0:
            self.failures[0] -= 1
            raise ConnectionError("down")
        ctx.emit(f"fired {timer.at // SECOND}")


def app_of(failures: int, **of_topics: Any) -> tuple[kstream.App, Any, Any, Any]:
    """With two inputs, and what the processor gives."""
    made: Any = type("Made", (Sets,), {"failures": [failures]})
    app = kstream.App("rests", on_error=[kstream.Retry(attempts=5, base=20, max=20, jitter=0)])
    a, b = (app.topic(name, key=str, value=str, **of_topics) for name in "ab")
    return app, a, b, app.stream(a).merge(app.stream(b)).process(made, name="p")


def waits(driver: TestDriver, seconds: int) -> None:
    for _ in range(seconds):
        driver.advance(seconds=1)


@pytest.mark.parametrize("advances", [False, True])
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_what_the_timer_emits_is_not_late(failures: int, advances: bool) -> None:
    app, a, b, given = app_of(failures, idle_advance=advances)
    out = app.topic("out", key=kstream.Windowed[str], value=int)
    windows = given.repartition(name="r").group_by_key().window(kstream.Tumbling(seconds=10), grace=timedelta(0))
    windows.count(name="w", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(b, "x", key="k", timestamp=1000 * SECOND)
        driver.send(a, "1005", key="k", timestamp=1001 * SECOND)
        driver.send(a, "y", key="k", timestamp=(1001 if advances else 1050) * SECOND)
        waits(driver, 100)
        for topic in (a, b):
            driver.send(topic, "y", key="k", timestamp=1180 * SECOND)
        waits(driver, 60)
        assert [(record.key.start, record.value) for record in driver.records(out)] == [(1000 * SECOND, 1)]


@pytest.mark.parametrize("crash_after", [3, 8, 15, 24, 40])
def test_after_a_crash_it_fires_though_no_record_comes(crash_after: int) -> None:
    app, a, b, given = app_of(1)
    out = app.topic("out", key=str, value=str)
    given.to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(b, "x", key="k", timestamp=1000 * SECOND)
        driver.send(a, "1005", key="k", timestamp=1001 * SECOND)
        driver.send(a, "y", key="k", timestamp=1050 * SECOND)
        waits(driver, crash_after)
        driver.crash()
        waits(driver, 60)
        assert driver.values(out) == ["fired 1005"]


def test_a_task_that_rests_no_longer_says_that_it_is_idle() -> None:
    """Another task goes on meanwhile: once this one is not believed to be idle any more, time behind them waits."""
    made: Any = type("Made", (Sets,), {"failures": [1]})
    app = kstream.App("rests", on_error=[kstream.Retry(attempts=5, base=60, max=60, jitter=0)])
    a = app.topic("a", key=str, value=str, partitions=2)
    out = app.topic("out", key=kstream.Windowed[str], value=int)
    windows = app.stream(a).process(made, name="p").repartition(name="r").group_by_key().window(
        kstream.Tumbling(seconds=10), grace=timedelta(0)
    )  # fmt: skip
    windows.count(name="w", emit="close").to(out)

    def sends(driver: TestDriver, value: str, at: int, partition: int) -> None:
        driver.send(a, value, key="k", timestamp=at * SECOND, partition=partition)

    with TestDriver(app, partitions=2) as driver:
        sends(driver, "1005", 1001, 0)
        sends(driver, "y", 1001, 1)
        waits(driver, 20)  # both are idle
        sends(driver, "y", 1006, 0)  # the timer fails
        waits(driver, 35)
        for second in range(15):
            sends(driver, "y", 1006 + second, 1)
            waits(driver, 1)
        waits(driver, 30)  # it fires
        for partition in range(2):
            sends(driver, "y", 1180, partition)
        waits(driver, 30)
        assert [(record.key.start, record.value) for record in driver.records(out)] == [(1000 * SECOND, 1)]


@pytest.mark.parametrize("record", [False, True])
def test_the_status_says_which_timer_a_task_waits_for(record: bool) -> None:
    app, a, _, given = app_of(1)
    given.to(app.topic("out", key=str, value=str))
    with TestDriver(app, partitions=1) as driver:
        driver.send(a, "1005", key="k", timestamp=1001 * SECOND)
        driver.send(a, "y", key="k", timestamp=1050 * SECOND)
        waits(driver, 8)
        if record:
            driver.send(a, "y", key="k", timestamp=1051 * SECOND)
        [task] = report_of(driver.worker, StoreSizes(driver.clock.monotonic)).tasks
        assert task.retrying and task.why is not None
        assert task.why.startswith("a timer that failed is tried again in 1")
        assert "processor 'p' failed for key 'k', timer '1005' of 1005000 (ms): ConnectionError: down" in task.why
        waits(driver, 30)
        [task] = report_of(driver.worker, StoreSizes(driver.clock.monotonic)).tasks
        assert not task.retrying
