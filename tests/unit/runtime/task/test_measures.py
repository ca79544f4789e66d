"""What workers count is what happened: known input against the series they report, through crashes and aborts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, ProcessingError
from kstream.observe.catalogue import CATALOGUE, LATENCIES
from kstream.observe.instruments import Histogram
from kstream.observe.merging import Merged
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.task.failures import PushFailed, TaskFailed
from kstream.runtime.task.measures import LARGEST, Runs, StoreMeasures, TaskTimes, error_class
from support.cases import examples
from unit.runtime.harness import Counting, Fleet


class Watched:
    """A fleet whose workers report after every step, as real ones do after every commit."""

    def __init__(self, directory: Path, **given: int) -> None:
        self.counting = Counting("measured")
        self.fleet = Fleet(self.counting.app, directory, partitions=2, **given)
        self.merged = Merged()
        self.sent = 0

    def look(self) -> None:
        for name, worker in self.fleet.workers.items():
            report = report_of(worker, StoreSizes(worker.parts.clock.monotonic))
            self.merged.update(name, report.metrics)

    def start(self, name: str) -> None:
        if name in self.fleet.workers:
            return
        self.fleet.start(name)

    def step(self) -> None:
        self.fleet.step(seconds=0.3)
        self.look()

    def crash(self, name: str) -> None:
        if name in self.fleet.workers:
            self.fleet.crash(name)
            self.merged.ended(name)

    def send(self, count: int) -> None:
        self.fleet.send(self.counting.source, [f"k{n % 7}" for n in range(count)])
        self.sent += count

    def value(self, name: str, **labels: str) -> float:
        return self.merged.value(name, labels) or 0.0


@given(
    moves=st.lists(st.sampled_from(["send", "step", "step", "crash a", "crash b", "start a", "start b"]), max_size=25)
)
@examples(25)
def test_committed_records_count_once_whatever_dies(moves: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    watched = Watched(tmp_path_factory.mktemp("measured"))
    watched.start("a")
    for move in moves:
        what, _, name = move.partition(" ")
        before = watched.value("records_committed_total")
        if what == "send":
            watched.send(5)
        elif what == "step":
            watched.step()
        elif what == "crash":
            watched.crash(name)
        else:
            watched.start(name)
        assert watched.value("records_committed_total") >= before, "a counter went back"
    watched.start("a")
    watched.crash("b")
    if watched.fleet.identity("b").member in watched.fleet.cluster.group(watched.counting.app.name).members:
        watched.fleet.expire("b")
    watched.fleet.settle()
    watched.look()
    topic = watched.counting.source.name
    assert watched.value("records_committed_total", topic=topic) == watched.sent
    assert watched.value("records_consumed_total", topic=topic) >= watched.sent
    assert sum(watched.merged.buckets("record_e2e_latency_seconds", {"topic": topic}) or ()) == watched.sent
    assert watched.value("consumer_lag_records") == 0
    watched.fleet.close()


def test_every_series_of_a_worker_is_in_the_catalogue_with_its_labels(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.start("a")
    watched.send(50)
    watched.fleet.settle()
    report = report_of(watched.fleet.workers["a"], StoreSizes(watched.fleet.clock.monotonic))
    seen = set()
    for series in report.metrics:
        metric = CATALOGUE[series.name]
        assert len(series.labels) == len(metric.labels), series
        assert (series.buckets is not None) == (metric.kind == "histogram"), series
        assert (series.name, series.labels) not in seen, f"{series.name} {series.labels} twice"
        seen.add((series.name, series.labels))
    watched.fleet.close()


def test_records_left_out_are_counted_by_reason_also_those_of_closed_tasks(tmp_path: Path) -> None:
    app = kstream.App("left")
    source = app.topic("in", key=str, value=int | None)
    app.stream(source).group_by_key().count(name="n")
    fleet = Fleet(app, tmp_path, partitions=2)
    worker = fleet.start("a")

    def dropped() -> dict[str, float]:
        found = report_of(worker, StoreSizes(fleet.clock.monotonic)).metrics
        return {one.labels[0]: one.value for one in found if one.name == "records_dropped_total"}

    assert dropped() == {"no key": 0, "no value": 0, "late": 0, "duplicate": 0}
    for n in range(10):
        fleet.cluster.append("in", None if n % 2 else b"k", None if n % 5 == 0 else b"1", partition=n % 2)
    fleet.settle()
    assert dropped() == {"no key": 5, "no value": 1, "late": 0, "duplicate": 0}
    fleet.start("b")
    fleet.settle()
    assert len(worker.tasks) == 1
    assert dropped() == {"no key": 5, "no value": 1, "late": 0, "duplicate": 0}
    fleet.close()


def test_latencies_are_those_of_the_records_committed() -> None:
    latency, runs = Histogram(LATENCIES), Runs()
    runs.add(10, 1_000, 2_000)
    runs.add(5, 2_000, 2_500)
    runs.drop()
    assert runs.committed(3.0, latency) == 0 and sum(latency.counts) == 0
    runs.add(100, 0, 10_000)
    assert runs.committed(10.0, latency) == 100
    assert latency.total == pytest.approx(100 * 5.0)
    runs.add(1, 99_000, 99_000)  # a clock ahead of ours: no time, rather than less than none
    runs.committed(10.0, latency)
    assert latency.total == pytest.approx(100 * 5.0)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 1000)), max_size=200))
def test_runs_stay_few(found: list[tuple[int, int]]) -> None:
    runs = Runs()
    for count, at in found:
        runs.add(count, at, at)
    total = sum(count for count, _ in found)
    assert runs.records == total
    assert len(runs._runs) <= total / 256 + 1 + sum(1 for count, _ in found if count >= 256)


def test_the_largest_entries_are_known_by_key() -> None:
    store = StoreMeasures()
    for n in range(20):
        store.wrote({b"k%d" % n: b"x" * n, b"small": b""})
    assert sorted(store.largest) == [b"k15", b"k16", b"k17", b"k18", b"k19"] and len(store.largest) == LARGEST
    store.wrote({b"k19": b"x" * 100})
    assert store.largest[b"k19"] == 103
    store.wrote({b"k19": None})
    assert b"k19" not in store.largest


def test_a_task_that_runs_is_busy_backpressured_or_idle_at_any_time() -> None:
    times = TaskTimes()
    times.runs(0.0)
    times.ran(1.0, 2.0, 0.25, False)
    assert (times.busy, times.backpressured) == (0.75, 0.25)
    times.ran(3.0, 4.0, 0.0, True)
    assert times.backpressured_until(6.0) == 2.25, "agents wait since 4.0"
    times.ran(6.0, 6.5, 0.0, False)
    assert (times.busy, times.backpressured_until(9.0), times.total(10.0)) == (2.25, 2.25, 10.0)
    times.rests(10.0)
    times.runs(20.0)
    assert times.total(21.0) == 11.0


def test_the_time_of_a_task_that_failed_is_neither_busy_nor_backpressured_nor_idle() -> None:
    """One whose agents waited for something when it failed was shown as 100% backpressured until it ran again."""
    times = TaskTimes()
    times.runs(0.0)
    times.ran(1.0, 2.0, 0.0, True)
    times.rests(3.0)
    assert (times.busy, times.backpressured_until(60.0), times.total(60.0)) == (1.0, 1.0, 3.0)
    times.rests(70.0)
    times.runs(100.0)
    times.ran(101.0, 102.0, 0.0, False)
    assert (times.busy, times.backpressured_until(110.0), times.total(110.0)) == (2.0, 1.0, 13.0)


def test_errors_are_named_by_what_is_at_the_bottom_of_them() -> None:
    cause = KeyError("x")
    record = ProcessingError("t/0", "t", 0, 7, cause)
    record.__cause__ = cause
    assert error_class(TaskFailed("t/0", record, 0, 1, singly=True)) == "KeyError"
    abort = AbortRequired("later")
    assert error_class(abort) == "AbortRequired"
    abort.__cause__ = PushFailed(10, record)
    assert error_class(abort) == "KeyError"
