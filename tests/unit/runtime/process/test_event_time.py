"""What time it is in a task, as reports say it."""

from __future__ import annotations

from datetime import timedelta

import kstream
from kstream.observe.status import TaskStatus
from kstream.runtime.process.reporting import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.testing import TestDriver

START = 1_000_000


def told(driver: TestDriver) -> tuple[dict[str, TaskStatus], dict[tuple[str, ...], float]]:
    report = report_of(driver.worker, StoreSizes(driver.clock.monotonic))
    found = {
        (one.name, *one.labels): one.value for one in report.metrics if one.name.endswith("event_time_seconds")
    }  # fmt: skip
    return {task.name: task for task in report.tasks}, found


def test_what_time_it_is_and_which_input_holds_it_back() -> None:
    app = kstream.App("shop")
    left, right = (app.topic(name, key=str, value=int, out_of_order=timedelta(seconds=1)) for name in ("a", "b"))
    app.stream(left).merge(app.stream(right)).group_by_key().window(
        kstream.Tumbling(seconds=10), grace=timedelta(0)
    ).count(name="n")
    app.stream(app.topic("other", key=str, value=int)).group_by_key().count(name="m")
    with TestDriver(app, partitions=1) as driver:
        driver.commit()
        tasks, metrics = told(driver)
        assert metrics == {} and tasks["a+b/0"].event_time is None
        driver.send(left, 1, key="k", timestamp=START + 9_000)
        driver.send(right, 1, key="k", timestamp=START + 4_500)
        tasks, metrics = told(driver)
        assert metrics == {
            ("event_time_seconds", "a+b/0"): 1003.5,
            ("input_event_time_seconds", "a+b", "a", "0"): 1008.0,
            ("input_event_time_seconds", "a+b", "b", "0"): 1003.5,
        }
        assert tasks["a+b/0"].time == 1003.5 and tasks["other/0"].event_time is None
        assert [(one.event_time, one.idle) for one in tasks["a+b/0"].inputs] == [(1008.0, False), (1003.5, False)]
        driver.commit()
        driver.crash()
        assert told(driver)[1]["event_time_seconds", "a+b/0"] == 1003.5
        driver.advance(6)
        tasks, _ = told(driver)
        assert tasks["a+b/0"].event_time == 1008.0
        assert [one.idle for one in tasks["a+b/0"].inputs] == [True, True]


def test_that_it_goes_on_with_the_clock_is_seen_before_something_closes() -> None:
    app = kstream.App("shop")
    source = app.topic("in", key=str, value=int, idle_advance=True)
    app.stream(source).group_by_key().window(kstream.Tumbling(hours=1), grace=timedelta(0)).count(name="n")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k", timestamp=START)
        driver.commit()
        driver.advance(30)
        tasks, metrics = told(driver)
        assert metrics["event_time_seconds", "in/0"] == 1030.0
        assert tasks["in/0"].inputs[0].event_time == 1030.0


def test_behind_a_repartition_the_task_before_that_is_idle_is_not_blamed() -> None:
    app = kstream.App("shop")
    source = app.topic("a", key=str, value=str, partitions=2)
    app.stream(source).repartition(name="r").group_by_key().window(
        kstream.Tumbling(seconds=10), grace=timedelta(0)
    ).count(name="w")
    with TestDriver(app, partitions=2) as driver:
        driver.send(source, "x", key="z", timestamp=START, partition=1)
        for _ in range(20):
            driver.advance(1)
        for second in range(4000, 4020):
            driver.send(source, "x", key="k", timestamp=START + second * 1000, partition=0)
            driver.advance(1)
        tasks, metrics = told(driver)
        task = tasks["shop-r-repartition/0"]
        [moved] = task.inputs
        assert (moved.event_time, moved.idle) == (task.event_time, False) and task.event_time == 5019.0
        assert metrics["input_event_time_seconds", task.part, moved.topic, "0"] == 5019.0
