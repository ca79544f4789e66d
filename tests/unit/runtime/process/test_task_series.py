"""What a worker tells of each of its tasks: how much waits, for how long, and how far a restore is."""

from __future__ import annotations

from pathlib import Path

import kstream
from kstream.observe.catalogue import Series
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.worker.ends import ASK_SECONDS
from kstream.runtime.worker.loop import StreamWorker

from ..harness import Counting, Fleet

MONTH = 30 * 86_400


def told(worker: StreamWorker) -> dict[tuple[str, ...], float]:
    """Levels by name and labels; of histograms, how many observations there are."""
    report = report_of(worker, StoreSizes(worker.parts.clock.monotonic))

    def level(one: Series) -> float:
        return one.value if one.buckets is None else sum(one.buckets)

    return {(one.name, *one.labels): level(one) for one in report.metrics}


def shown(worker: StreamWorker) -> dict[str, float | None]:
    """How far each task is behind as the page, the commands and the other instances hear it."""
    return {task.name: task.behind for task in report_of(worker, StoreSizes(worker.parts.clock.monotonic)).tasks}


def of_tasks(worker: StreamWorker, name: str) -> dict[str, float]:
    return {labels[0]: value for (found, *labels), value in told(worker).items() if found == name}


def test_a_task_that_has_failed_is_behind_and_the_one_beside_it_is_not(tmp_path: Path) -> None:
    app = kstream.App("two")
    good, bad = (app.topic(name, key=str, value=int) for name in ("good", "bad"))
    gate = {"open": False}

    def fails(value: int) -> int:
        if not gate["open"]:
            raise ValueError("planned")
        return value

    app.stream(bad).map(fails).to(app.topic("out", key=str, value=int))
    app.stream(good).to(app.topic("other", key=str, value=int))
    fleet = Fleet(app, tmp_path, partitions=1, restart_initial=600.0, restart_max=600.0)
    worker = fleet.start("a")
    fleet.step(times=10, seconds=1.0)
    fleet.send(bad, ["k"])
    for _ in range(60):
        fleet.send(good, ["k"])
        fleet.step(times=2, seconds=ASK_SECONDS / 2)
    found = told(worker)
    assert found["task_lag_records", "bad/0"] == 1 and found["task_lag_records", "good/0"] == 0
    assert found["task_state", "bad/0", "failed"] == found["task_state", "good/0", "running"] == 1
    assert found["consumer_lag_seconds", "good", "0"] == 0
    assert [labels for labels in found if labels[0] == "input_held"] == [("input_held", "bad", "0", "failed")]
    # the record came 300 s ago, and was seen at the next look
    assert 300 - 2 * ASK_SECONDS <= found["consumer_lag_seconds", "bad", "0"] <= 301
    assert shown(worker) == {"bad/0": found["consumer_lag_seconds", "bad", "0"], "good/0": None}
    gate["open"] = True
    fleet.step(times=100, seconds=5.0)
    assert told(worker)["consumer_lag_seconds", "bad", "0"] == 0 and shown(worker) == {"bad/0": None, "good/0": None}
    fleet.close()


def test_old_timestamps_are_no_delay_and_waiting_is(tmp_path: Path) -> None:
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.step(times=10, seconds=0.5)
    topic, old = counting.source, round((fleet.clock.time() - MONTH) * 1000)
    for n in range(20):  # somebody copies records of a month ago into the topic
        fleet.cluster.append(
            topic.name, topic.key.codec.encode(f"k{n}"), topic.value.codec.encode(1), timestamp=old + n
        )
        fleet.step(times=3, seconds=0.5)
    (delay,) = (
        one
        for one in report_of(worker, StoreSizes(fleet.clock.monotonic)).metrics
        if one.name == "record_delay_seconds"
    )
    (age,) = (
        one
        for one in report_of(worker, StoreSizes(fleet.clock.monotonic)).metrics
        if one.name == "record_e2e_latency_seconds"
    )
    assert delay.buckets is not None and age.buckets is not None
    assert sum(delay.buckets) == sum(age.buckets) == 20
    assert age.value > 19 * MONTH
    assert 0 < delay.value < 20 * 4  # a commit a second, and a look each half
    worker.paused = True
    fleet.send(topic, ["late"])
    fleet.step(times=20, seconds=3.0)
    worker.paused = False
    fleet.settle()
    (late,) = (
        one
        for one in report_of(worker, StoreSizes(fleet.clock.monotonic)).metrics
        if one.name == "record_delay_seconds"
    )
    assert late.value - delay.value > 55
    fleet.close()


def test_what_was_there_before_is_behind_by_its_age_and_no_delay(tmp_path: Path) -> None:
    """A replay, or a backlog that an outage left: how long it has lain there, nobody here has seen."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=1, poll_batch=1)
    topic, old = counting.source, round((fleet.clock.time() - MONTH) * 1000)
    for n in range(100):
        fleet.cluster.append(
            topic.name, topic.key.codec.encode(f"k{n}"), topic.value.codec.encode(1), timestamp=old + n
        )
    worker = fleet.start("a")
    behind = []
    for _ in range(60):
        fleet.step()
        found = told(worker)
        if found.get(("records_consumed_total", topic.name), 0):
            behind.append(found["consumer_lag_seconds", topic.name, "0"])
    assert behind and min(behind) > MONTH - 60
    fleet.settle()
    found = told(worker)
    assert found["record_e2e_latency_seconds", topic.name] == 100
    assert found["record_delay_seconds", topic.name] == 0
    assert found["consumer_lag_seconds", topic.name, "0"] == 0
    fleet.close()


def test_what_was_set_aside_is_behind_from_when_it_is_due(tmp_path: Path) -> None:
    app = kstream.App("later", on_error=[kstream.RetryLater([600])])
    source = app.topic("in", key=str, value=int)

    @app.agent(source)
    def fails(value: int) -> None:
        raise ValueError("planned")

    fleet = Fleet(app, tmp_path, partitions=1, restart_initial=5.0, restart_max=5.0)
    worker = fleet.start("a")
    fleet.step(times=10, seconds=0.5)
    fleet.send(source, ["k"])
    series, waited = ("consumer_lag_seconds", "later-in-retry-600s", "0"), 0
    while waited < 590:
        fleet.step(seconds=5.0)
        waited += 5
        assert not told(worker).get(series) and set(shown(worker).values()) <= {None}
    fleet.step(times=80, seconds=5.0)  # it fails again, without a further delay: its task stops
    behind = told(worker)[series]
    assert 300 < behind < 420 and shown(worker) == {"in/0": behind}
    worker.paused = True
    fleet.step(times=20, seconds=5.0)
    assert abs(told(worker)[series] - behind - 100) < 10
    fleet.close()


def test_a_restore_is_told_task_by_task(tmp_path: Path) -> None:
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=2, poll_batch=1)
    fleet.start("a")
    fleet.send(counting.source, [f"k{n}" for n in range(40)])
    fleet.settle()
    fleet.crash("a")
    worker = fleet.start("a")
    lefts: dict[str, list[float]] = {}
    while not worker.tasks or len(worker.restorer):
        fleet.step("a")
        for task, left in of_tasks(worker, "task_restore_remaining_records").items():
            lefts.setdefault(task, []).append(left)
        assert of_tasks(worker, "task_restoring").keys() == set(worker.restorer.stages())
    assert len(lefts) == 2
    for seen in lefts.values():
        assert seen == sorted(seen, reverse=True) and seen[0] > 1
    fleet.settle()
    assert of_tasks(worker, "task_restoring") == of_tasks(worker, "task_restore_remaining_records") == {}
    counting.check(fleet)
    fleet.close()
