"""Time goes through repartition topics: however the partitions before them are read, windows behind them have all
records, and close when all of them are through."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling, Windowed
from kstream.operators.marks import HEADER
from kstream.state.watermark import IDLE, UNKNOWN, Watermark
from kstream.testing import TestDriver

MS = timedelta(milliseconds=1)
PARTITIONS = 3


def app_of(grace: int = 0, out_of_order: int = 0, backend: Any = None) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=PARTITIONS, out_of_order=out_of_order * MS)
    out = app.topic("out", key=Windowed[int], value=list[int])

    def residue(n: int) -> int:
        return n % 4

    def collect(values: list[int], n: int) -> list[int]:
        return sorted([*values, n])

    group = app.stream(source).group_by(residue, name="by", key=int, parallelism=2)
    windows = group.window(Tumbling(10 * MS), grace=grace * MS)
    windows.aggregate(list[int], collect, name="w", value=list[int], emit="close").to(out)
    return app, source, out


def expected(records: list[tuple[int, int]], before: int) -> dict[Windowed[int], list[int]]:
    found: defaultdict[Windowed[int], list[int]] = defaultdict(list)
    for n, at in records:
        if (start := at // 10 * 10) + 10 <= before:
            found[Windowed(n % 4, start)].append(n)
    return {key: sorted(values) for key, values in found.items()}


actions = st.one_of(
    st.tuples(st.just("send"), st.integers(0, PARTITIONS - 1), st.integers(0, 30), st.integers(0, 25)),
    st.tuples(st.just("send"), st.integers(0, PARTITIONS - 1), st.integers(0, 30), st.integers(0, 2)),
    st.tuples(st.just("commit")),
    st.tuples(st.just("crash")),
)


@given(st.lists(actions, max_size=40), st.integers(0, 5), st.sampled_from(["memory", "rocksdb"]))
def test_no_record_is_late_because_its_partition_is_slow(script: list[Any], out_of_order: int, backend: str) -> None:
    """Each partition is in order, as far as its topic says; between them anything goes."""
    app, source, out = app_of(out_of_order=out_of_order)
    times, records = [1000] * PARTITIONS, []
    with TestDriver(app, backend=backend) as driver:
        for action, *how in script:
            if action == "send":
                partition, n, later = how
                times[partition] += later
                at = times[partition] - n % (out_of_order + 1)
                driver.send(source, n, key="k", timestamp=at, partition=partition)
                records.append((n, at))
            elif action == "commit":
                driver.commit()
            else:
                driver.crash()
        for partition in range(PARTITIONS):
            driver.send(source, 0, key="k", timestamp=5000, partition=partition)
        driver.commit()
        found = [(record.key, record.value) for record in driver.records(out)]
        assert dict(found) == expected(records, 5000)
        assert len(dict(found)) == len(found)  # each closed once


def test_a_partition_without_records_holds_time_back_until_it_is_idle() -> None:
    app, source, out = app_of()
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        driver.send(source, 2, key="k", timestamp=1015, partition=0)
        assert driver.values(out) == []
        driver.advance(4)
        assert driver.values(out) == []
        driver.advance(2)
        assert driver.values(out) == [[1]]  # all are idle, and partition 0 has come to 1015


def test_a_task_that_commits_late_says_what_time_it_is_though_it_is_idle_by_then() -> None:
    """It, or the broker, stood still for longer than `idle_timeout` behind its last records."""
    app, source, out = app_of()
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        driver.send(source, 2, key="k", timestamp=1015, partition=0)
        driver.advance(6)
        assert driver.values(out) == [[1]]


def test_a_task_that_is_restored_hears_from_the_idle_what_time_it_is() -> None:
    app, source, out = app_of()
    with TestDriver(app) as driver:
        for partition, at in enumerate((1015, 1000, 1001)):
            driver.send(source, 4, key="k", timestamp=at, partition=partition)
        driver.commit()
        for task in downstream(driver):
            driver.worker._recovery.restore(task, full=True)
        driver.advance(6)
        assert driver.values(out) == [[4, 4]]  # the latest of them is 1015


def test_what_is_idle_and_has_records_again_holds_back_again() -> None:
    app, source, out = app_of()
    with TestDriver(app) as driver:
        driver.commit()  # reads its inputs to their ends
        driver.advance(6)
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        driver.send(source, 1, key="k", timestamp=1001, partition=1)
        driver.commit()
        driver.send(source, 1, key="k", timestamp=1020, partition=0)
        assert driver.values(out) == []
        driver.send(source, 1, key="k", timestamp=1030, partition=1)
        assert driver.values(out) == [[1, 1]]


def test_windows_of_windows() -> None:
    """Results come at the end of a window and its grace, with an earlier time: what is behind them waits for them."""
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=Windowed[str], value=int)
    first = app.stream(source).group_by_key().window(Tumbling(10 * MS), grace=7 * MS)
    sums = first.sum(lambda n: n, name="first", value=int, emit="close").stream()
    total = sums.group_by(lambda n: "all", name="all", key=str, parallelism=1)
    total.window(Tumbling(20 * MS), grace=0 * MS).sum(lambda n: n, name="second", value=int, emit="close").to(out)
    with TestDriver(app) as driver:
        for at in range(1000, 1200, 3):
            driver.send(source, 1, key=str(at % 2), timestamp=at)
            driver.commit()
        found = {record.key.start: record.value for record in driver.records(out)}
    assert found == {
        start: len([at for at in range(1000, 1200, 3) if start <= at < start + 20]) for start in range(1000, 1180, 20)
    }


def test_users_see_nothing_of_the_marks() -> None:
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=2)
    seen: list[int] = []
    group = app.stream(source).group_by(str, name="by", key=str, parallelism=2)
    copy = app.topic("copy", key=str, value=int)
    group.stream().peek(seen.append).to(copy)
    group.window(Tumbling(10 * MS), grace=0 * MS).count(name="n")
    with TestDriver(app) as driver:
        for n in range(5):
            driver.send(source, n, key="k", timestamp=1000 + 20 * n, partition=n % 2)
            driver.commit()
        assert sorted(seen) == list(range(5))
        assert len(driver.values(copy)) == 5


def downstream(driver: TestDriver) -> list[Any]:
    return [task for task in driver.worker.tasks.values() if task.plan.time_writer is None]


def test_a_task_that_is_restored_hears_again_who_is_idle() -> None:
    app, source, out = app_of()
    with TestDriver(app) as driver:
        driver.commit()
        driver.advance(6)
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        driver.send(source, 1, key="k", timestamp=1020, partition=0)
        assert len(driver.values(out)) == 1
        for task in downstream(driver):
            driver.worker._recovery.restore(task, full=True)
        driver.send(source, 1, key="k", timestamp=2000, partition=0)
        assert len(driver.values(out)) == 1
        driver.advance(6)
        assert len(driver.values(out)) == 2


def test_an_idle_task_that_says_so_no_more_holds_time_back() -> None:
    """It has failed, say, and records come to its partition meanwhile."""
    app, source, _ = app_of()
    with TestDriver(app) as driver:
        driver.commit()
        driver.advance(6)
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        marks = [task.plan.watermark for task in downstream(driver)]
        driver.commit()
        assert all(len(mark._idle) == PARTITIONS - 1 for mark in marks if mark is not None)
        driver.clock.advance(60)
        for mark in marks:
            assert mark is not None
            mark.doubt()
            assert not mark._idle


def test_marks_lie_unread_when_windows_are_taken_out_of_an_app() -> None:
    """Or when an older release runs again: they are no data."""
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=1)
    copy = app.topic("copy", key=int, value=int, partitions=1)
    app.stream(source).group_by(lambda n: n % 2, name="by", key=int, parallelism=1).stream().to(copy)
    with TestDriver(app) as driver:
        headers = [(HEADER, b'{"v":1,"task":0,"time":5}')]
        driver.cluster.append("carried-by-repartition", None, None, 1000, headers, 0)
        driver.send(source, 1, key="k", timestamp=1000)
        assert driver.values(copy) == [1]


def test_marks_of_tasks_that_are_no_more_do_not_hold_windows_back_for_ever() -> None:
    """The input was another one before, of more partitions, and nothing ever came of these tasks any more."""
    app, source, out = app_of()
    with TestDriver(app) as driver:
        driver.commit()
        for partition in range(2):
            headers = [(HEADER, b'{"v":1,"task":7,"time":5}')]
            driver.cluster.append("carried-by-repartition", None, None, 1000, headers, partition)
        driver.crash()
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        driver.send(source, 1, key="k", timestamp=1020, partition=0)
        driver.advance(6)
        assert driver.values(out) == []  # it may be one that was added a moment ago
        for _ in range(5):
            driver.advance(6)
        assert driver.values(out) == [[1]]


def test_partitions_that_are_added_to_an_input_hold_back_too() -> None:
    time = Watermark({}, {"by": 1})
    time.heard("by", 0, 10)
    time.heard("by", 1, 4)
    time.heard("by", 0, 20)
    assert time.now == 10
    time.heard("by", 1, 15)
    assert time.now == 15


def test_who_said_before_the_restore_that_it_is_idle_holds_back_until_it_says_so_again() -> None:
    """It may have been restored as well, and have a backlog: another one would make its records late."""
    time = Watermark({}, {"by": 2})
    time.heard("by", 0, IDLE, 10, old=True)
    time.heard("by", 1, IDLE, 4, old=True)
    assert time.now == 4 and not time.idle
    time.heard("by", 0, 20)
    assert time.now == 4
    time.heard("by", 1, IDLE, 4)
    assert time.now == 20


def test_it_was_as_far_as_the_others_where_it_said_so_and_no_further() -> None:
    time = Watermark({}, {"by": 3})
    time.heard("by", 0, 10, old=True)
    time.heard("by", 1, IDLE, 4, old=True)
    assert time.now == UNKNOWN  # nothing is heard of the last
    time.heard("by", 2, IDLE, old=True, more=True)
    time.heard("by", 1, IDLE, 4, old=True)
    assert time.now == 10
    time.heard("by", 0, 30, old=True)
    assert time.now == 10
    time.keep()
    time.heard("by", 1, IDLE, 4, old=True, more=True)
    time.heard("by", 2, 15, old=True)  # it had something again
    assert time.now == 15
    time.take_back()
    time.heard("by", 2, IDLE, old=True, more=True)
    time.heard("by", 1, IDLE, 4, old=True)
    assert time.now == 30
    time.heard("by", 0, 50)
    assert time.now == 30


def test_what_a_part_writes_to_itself_does_not_hold_its_windows_back() -> None:
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=1)
    rows = app.topic("rows", key=str, value=int, partitions=1)
    out = app.topic("out", key=Windowed[str], value=int)
    table = app.stream(rows).to_table("rows")
    stream = app.stream(source)
    by_key = stream.join(table, lambda n, row: n, how="left", name="own")
    by_key.group_by_key().window(Tumbling(10 * MS), grace=0 * MS).sum(
        lambda n: n, name="w", value=int, emit="close"
    ).to(out)
    other = stream.rekey(str, key=str).join(table, lambda n, row: n, how="left", name="x", value=int)
    other.peek(lambda n: None)
    with TestDriver(app) as driver:
        driver.commit()
        for at in range(1000, 1100, 5):
            driver.send(source, 1, key="k", timestamp=at)
        driver.commit()
        driver.advance(6)
        assert len(driver.values(out)) >= 8


class Counts(kstream.Processor[int, int, list[int]]):
    """When a timer fires, all records of its time and of earlier ones have come: it says how many these are."""

    times = kstream.ListState(int)

    def process(self, value: int, ctx: kstream.ProcessorContext[int, list[int]]) -> None:
        self.times.append(ctx.timestamp)
        ctx.timer(at=ctx.timestamp, name=str(ctx.timestamp))

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[int, list[int]]) -> None:
        ctx.emit([timer.at, sum(at <= timer.at for at in self.times)])


@given(st.lists(actions, max_size=30), st.integers(0, 5), st.sampled_from(["memory", "rocksdb"]))
def test_timers_wait_for_records_of_slower_partitions(script: list[Any], out_of_order: int, backend: str) -> None:
    app = kstream.App("carried")
    source = app.topic("in", key=str, value=int, partitions=PARTITIONS, out_of_order=out_of_order * MS)
    out = app.topic("out", key=int, value=list[int])
    grouped = app.stream(source).group_by(lambda n: n % 4, name="by", key=int, parallelism=2).stream()
    grouped.process(Counts, name="p").to(out)
    times, of_key = [1000] * PARTITIONS, defaultdict[int, list[int]](list)
    with TestDriver(app, backend=backend) as driver:
        for action, *how in script:
            if action == "send":
                partition, n, later = how
                times[partition] += later
                at = times[partition] - n % (out_of_order + 1)
                driver.send(source, n, key="k", timestamp=at, partition=partition)
                of_key[n % 4].append(at)
            elif action == "commit":
                driver.commit()
            else:
                driver.crash()
        for partition in range(PARTITIONS):
            driver.send(source, 0, key="k", timestamp=5000, partition=partition)
        driver.commit()
        found = defaultdict[int, list[list[int]]](list)
        for record in driver.records(out):
            found[record.key].append(record.value)
        assert found == {
            key: [[at, sum(one <= at for one in some)] for at in sorted(set(some))] for key, some in of_key.items()
        }


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("stages", [2, 3])
def test_windows_behind_windows_that_are_joined_with_their_own_input_close(partitions: int, stages: int) -> None:
    """The part that reads the input is before and behind that of the second windows, which has no other time: its
    windows never closed."""
    app = kstream.App("loop")
    source, both = app.topic("in", key=str, value=int), app.topic("both", key=str, value=str)
    stream = app.stream(source)
    summed = stream
    for stage in range(stages):
        group = (summed.repartition(name=f"again-{stage}") if stage else summed).group_by_key()
        sums = group.window(kstream.Tumbling(seconds=1), grace=timedelta(0)).sum(
            lambda n: n, name=f"sums-{stage}", value=int, emit="close"
        )
        summed = sums.stream().rekey(lambda _, ctx: ctx.key.key, key=str)
    table = stream.to_table("last")
    summed.join(table, lambda total, last: f"{total} {last}", value=str).to(both)
    with TestDriver(app, partitions=partitions) as driver:
        for second in range(4):
            for key in ("a", "b", "c"):
                driver.send(source, second, key=key, timestamp=1_700_000_000_000 + 1000 * second)
            driver.commit()
        for partition in range(partitions):
            driver.send(source, 0, key=None, timestamp=1_700_000_009_000, partition=partition)
        assert sorted(record.key for record in driver.records(both)) == sorted(["a", "b", "c"] * 4)
