"""That a task is idle is told to those behind it, and holds for what it had then: not for what has come while all of
them were away."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.types import TopicPartition
from support.cases import examples
from unit.runtime.harness import Fleet

PARTITIONS = 4
ROW = st.tuples(st.integers(0, PARTITIONS - 1), st.sampled_from("abcd"))
ROWS = st.lists(ROW, max_size=40)


def app_of(two: bool) -> tuple[kstream.App, Any]:
    """Windows behind a rekey. `two`: of a user's topic, too, which is read beside it."""
    app = kstream.App("behind")
    source, beside = (app.topic(name, key=str, value=str) for name in ("in", "beside"))
    out, late = app.topic("out", key=kstream.Windowed[str], value=int), app.topic("late", key=str, value=str)
    stream: Any = app.stream(source).rekey(lambda value, ctx: value, key=str)
    if two:
        stream = stream.repartition(name="by").merge(app.stream(beside))
    windows = stream.group_by_key().window(kstream.Tumbling(seconds=0.1), grace=timedelta(0), late=late)
    windows.count(name="n", emit="close").to(out)
    return app, out


@pytest.mark.parametrize("two", [False, True])
@examples(8)
@given(
    before=ROWS, after=ROWS, poll=st.sampled_from([3, 1, 500]), away=st.sampled_from([1.0, 30.0]),
    first=st.sampled_from([10, 0, 30]),
    crashes=st.lists(st.tuples(st.integers(1, 40), st.sampled_from("ab")), max_size=2),
)  # fmt: skip
def test_nothing_of_a_backlog_is_late_where_all_were_idle_before(
    two: bool, before: list[tuple[int, str]], after: list[tuple[int, str]], poll: int, away: float, first: int,
    crashes: list[tuple[int, str]],
) -> None:  # fmt: skip
    """Two workers had some records, and were idle for long; both die, and the backlog comes. One of them comes back
    some turns before the other."""
    wanted, found = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    now = 1000
    app, out = app_of(two)
    with TemporaryDirectory() as directory:
        fleet = Fleet(app, Path(directory), partitions=PARTITIONS, poll_batch=poll)

        def send(rows: list[tuple[int, str]], step: int) -> None:
            nonlocal now
            for number, (partition, key) in enumerate(rows):
                now += step
                raw, topic = key.encode(), "beside" if two and number % 3 == 0 else "in"
                at = partition if topic == "in" else None  # the partition that its key has behind the other, too
                fleet.cluster.append(topic, raw, raw, now, partition=at)
                wanted[key, now // 100 * 100] += 1

        for name in "ab":
            fleet.start(name)
        send(before, 20)
        fleet.settle()
        fleet.step(times=20, seconds=0.3)
        for name in "ab":
            fleet.crash(name)
        send(after, 20)
        fleet.clock.advance(away)
        fleet.start("a")
        fleet.step(times=first, seconds=0.3)
        fleet.start("b")
        for turn in range(50):
            fleet.step(seconds=0.3)
            for name in [name for when, name in crashes if when == turn]:
                fleet.crash(name)
                fleet.start(name)
        fleet.settle()
        now += 1000
        last = now
        send([(partition, key) for key in "abcd" for partition in range(PARTITIONS)], 0)  # of one time: none is late
        fleet.step(times=10, seconds=0.3)
        fleet.settle()
        fleet.step(times=20, seconds=0.3)
        assert [record.value for record in fleet.cluster.records("late")] == []
        for window, counts in fleet.outputs(out).items():
            found[window.key, window.start] += sum(counts)
        fleet.close()
    assert found == {window: count for window, count in wanted.items() if window[1] < last // 100 * 100}


def test_windows_close_on_the_way_through_a_backlog_in_which_one_was_idle(tmp_path: Path) -> None:
    """The group behind was away while the one before it went on, one of whose partitions had nothing: it was said to be
    idle again and again."""
    app = kstream.App("groups")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=kstream.Windowed[str], value=int)
    group = app.stream(source).group_by(lambda value: value, key=str, name="by", group="behind", parallelism=1)
    group.window(kstream.Tumbling(seconds=0.1), grace=timedelta(0)).count(name="n", emit="close").to(out)
    fleet = Fleet(app, tmp_path, partitions=2, poll_batch=3)
    fleet.start_group("default")
    for second in range(60):
        fleet.cluster.append("in", b"a", b"a", 1000 + 1000 * second, partition=0)
        fleet.step(times=3, seconds=0.3)
    fleet.stop_groups()
    worker = fleet.start_group("behind")
    at = TopicPartition("groups-by-repartition", 0)
    end = fleet.cluster.log(at).end
    while not worker.tasks or fleet.task("behind", 0).positions.get(at, 0) < end * 3 // 4:
        fleet.step(seconds=0.05)
    assert len(list(fleet.task("behind", 0).backend.scan("n"))) < 20  # there were some 45 of them
    assert len(fleet.cluster.records("out")) > 0
    fleet.close()
