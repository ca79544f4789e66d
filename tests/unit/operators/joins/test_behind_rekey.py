"""Joins with a table where one side has travelled through a repartition topic: a backlog gives what its records' times
say, however far the tasks before are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.operators import process
from kstream.operators.marks import Mark, mark_of
from kstream.runtime.cluster.control import Request
from kstream.runtime.task import overdue
from kstream.state.watermark import IDLE, UNKNOWN, Watermark
from kstream.testing import TestDriver
from kstream.types import TopicPartition
from support.cases import cases


def joined(travels: Sequence[str], *, steps: int = 1) -> tuple[kstream.App, dict[str, Any], Any]:
    """Orders joined with prices. Of each that travels the key is changed, `steps` times."""
    app = kstream.App("behind")
    topics = {name: app.topic(name, key=str, value=str) for name in ("orders", "prices")}
    streams = {}
    for name, topic in topics.items():
        stream: Any = app.stream(topic)
        for step in range(steps if name in travels else 0):
            stream = stream.rekey(lambda value, ctx: ctx.key, key=str)
            if step < steps - 1:
                stream = stream.repartition(name=f"{name}-{step}")
        streams[name] = stream
    out = app.topic("out", key=str, value=str)
    table = streams["prices"].to_table("prices")
    streams["orders"].join(table, lambda order, price: f"{order}@{price}", how="left", name="j").to(out)
    return app, topics, out


TRAVELS = [["orders"], ["prices"], ["orders", "prices"]]


@pytest.mark.parametrize("travels", TRAVELS, ids="+".join)
@cases
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["orders", "prices"]), st.sampled_from("ab"), st.integers(1, 20)), min_size=1,
        max_size=30,
    ),
    poll=st.sampled_from([1, 3, 500]),
    crashes=st.lists(st.integers(0, 60), max_size=3),
    steps=st.sampled_from([1, 2]),
    every=st.integers(1, 4),
    ahead=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["orders", "prices"])), max_size=4),
)  # fmt: skip
def test_a_backlog_is_joined_in_the_order_of_its_times(
    travels: list[str],
    rows: list[tuple[str, str, int]],
    poll: int,
    crashes: list[int],
    steps: int,
    every: int,
    ahead: list[tuple[int, str]],
) -> None:
    """Batches of any size, a commit every few turns, crashes between: the tasks before are behind all the time. A
    record that is days ahead of the clock is joined like any other, and changes nothing for those behind it."""
    rows = sorted(rows, key=lambda row: (row[2], row[0] == "orders"))
    prices: dict[str, str] = {}
    wanted: dict[str, list[str]] = {"a": [], "b": []}
    for number, (side, key, _) in enumerate(rows):
        if side == "prices":
            prices[key] = f"p{number}"
        else:
            wanted[key].append(f"o{number}@{prices.get(key)}")
    app, _, out = joined(travels, steps=steps)
    with TestDriver(app, partitions=2, poll_batch=poll) as driver:
        far, strange = int(driver.clock.time() * 1000) + 10 * 86_400_000, 0
        for number, (side, key, at) in enumerate(rows):
            stamp = 1000 + 10 * at + (side == "orders")  # no two sides at one time
            # each partition is fed by one task, which has all keys that belong there
            driver.cluster.append(side, key.encode(), f"{side[0]}{number}".encode(), stamp, None, None)
            for early in [one for place, one in ahead if place == number]:
                driver.cluster.append(early, b"z", b"z", far, None, None)
                strange += early == "orders"
        for turn in range(60):
            for worker in driver._open():
                worker.step()
                if turn % every == 0:
                    worker.commit_now()
            if turn in crashes:
                driver.crash()
        records = driver.records(out)
    assert {key: [one.value for one in records if one.key == key] for key in wanted} == wanted
    assert sum(one.key == "z" for one in records) == strange


@pytest.mark.parametrize("travels", TRAVELS, ids="+".join)
def test_what_comes_later_waits_for_nobody_who_is_through(travels: list[str]) -> None:
    """No clock moves, and nothing comes of the other side."""
    app, topics, out = joined(travels)
    with TestDriver(app, partitions=2) as driver:
        driver.send(topics["prices"], "p", key="a")
        driver.commit()
        driver.send(topics["orders"], "o", key="a")
        assert driver.values(out) == ["o@p"]
        for _ in range(3):
            driver.send(topics["orders"], "o", key="a")
        assert driver.values(out) == ["o@p"] * 4


def test_what_a_part_writes_to_itself_holds_nothing_back() -> None:
    """One topic leads to the table, and by way of a repartition to what is joined with it, in one part of the app."""
    app = kstream.App("itself")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    stream = app.stream(source)
    table = stream.to_table("rows")
    stream.rekey(lambda value: value, key=str).join(table, lambda one, row: f"{one}@{row}", how="left", name="j").to(
        out
    )
    with TestDriver(app, partitions=2) as driver:
        driver.send(source, "a", key="b")
        driver.send(source, "b", key="a")
        assert sorted(driver.values(out)) == ["a@b", "b@a"]


def test_who_is_through_says_so_once() -> None:
    app, _, _ = joined(["orders"])
    with TestDriver(app, partitions=1) as driver:
        driver.commit()
        driver.commit()
        topic = "behind-j-repartition"
        marks = [mark_of(record.headers) for record in driver.cluster.records(topic)]
        assert marks == [Mark(task=0, time=UNKNOWN, at_end=True)]


def test_who_is_through_says_so_again_however_long_an_input_is_not_idle() -> None:
    """One that was started anew behind it has not heard it."""
    app, _, _ = joined(["orders"])
    with TestDriver(app, partitions=1, idle_timeout=600) as driver:
        driver.commit()
        for _ in range(12):
            driver.advance(1)
        driver.commit()
        assert len(driver.cluster.records("behind-j-repartition")) == 3


def test_tasks_that_are_committed_together_speak_in_one_record() -> None:
    """Idle apps wrote tasks times partitions of them every 5 s: 4,096 with 64 of each."""
    app, topics, out = joined(["orders"])
    with TestDriver(app, partitions=8) as driver:
        driver.send(topics["prices"], "p", key="a")
        for _ in range(20):
            driver.advance(1)
        topic = TopicPartition("behind-j-repartition", 0)
        before = driver.cluster.log(topic).end
        for _ in range(60):
            driver.advance(1)
        marks = [mark_of(one.headers) for one in driver.cluster.records(topic.topic) if one.partition == 0]
        said = marks[-1]
        assert said is not None and [one.task for one in said.all] == list(range(8))
        assert driver.cluster.log(topic).end - before <= 2 * 13  # with the transactions' markers
        driver.crash()
        driver.send(topics["orders"], "o", key="a")
        driver.advance(5)
        assert driver.values(out) == ["o@p"]


def test_of_a_task_that_is_not_heard_any_more_more_may_come() -> None:
    now = [0.0]
    mark = Watermark({"own": 0}, {"before": 2}, lease=10, clock=lambda: now[0])
    assert mark.least_to_come("before") == UNKNOWN
    assert mark.least_to_come("own") is None
    mark.heard("before", 0, 50)
    mark.heard("before", 1, 70, at_end=True)
    assert mark.least_to_come("before") == 50
    mark.heard("before", 0, 60, at_end=True)
    assert mark.least_to_come("before") is None
    mark.keep()
    mark.heard("before", 0, 65)
    assert mark.least_to_come("before") == 65
    mark.take_back()
    assert mark.least_to_come("before") is None
    now[0] = 10.5
    assert mark.least_to_come("before") == 60
    mark.heard("before", 0, IDLE, 90)
    mark.heard("before", 1, IDLE)
    assert mark.least_to_come("before") is None
    mark.rewind()
    assert mark.least_to_come("before") == UNKNOWN


@pytest.mark.parametrize("travels", [[], ["prices"]], ids=["neither", "prices"])
def test_a_topic_with_far_more_than_is_taken_does_not_stop_the_other(travels: list[str]) -> None:
    """Both inputs were paused, and the one that was waited for among them."""
    app, _, out = joined(travels)
    with TestDriver(app, partitions=1, poll_batch=10) as driver:
        for number in range(300):
            driver.cluster.append("orders", b"k", b"o", 1_000_000 + number, None, 0)
        for number in range(300):
            driver.cluster.append("prices", b"k", b"p", 500_000 + number, None, 0)
        assert driver.values(out) == ["o@p"] * 300


def test_a_side_whose_times_do_not_grow_says_again_that_it_is_through() -> None:
    """It is never idle either. Said once, it was believed for 15 s."""
    app, topics, _ = joined(["prices"])
    with TestDriver(app, partitions=1) as driver:
        for number in range(40):
            driver.send(topics["prices"], "p", key="a", timestamp=1000)
            driver.advance(1)
            driver.send(topics["orders"], "o", key="a", timestamp=5000 + number)
            driver.advance(0.1)
        assert len(driver.cluster.records("out")) == 40


@pytest.mark.parametrize("seconds", [0, 4, 6, 30])
def test_marks_do_not_make_an_input_wait_anew(seconds: int) -> None:
    """`max_task_idle` began again with each, and they come every 5 s."""
    app, topics, _ = joined(["prices"])
    with TestDriver(app, partitions=2, max_task_idle=seconds) as driver:
        driver.send(topics["prices"], "p", key="a", timestamp=1000)
        driver.commit()
        driver.advance(1)
        driver.send(topics["orders"], "o", key="a", timestamp=5000)
        for _ in range(seconds + 1):
            driver.advance(1)
        assert len(driver.cluster.records("out")) == 1


class Ticks(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: Any) -> None:
        ctx.timer(after=timedelta(seconds=1))

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        ctx.emit(str(timer.at))
        ctx.timer(at=timer.at + 1000)


def test_a_task_whose_timers_are_still_to_fire_is_not_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes through them by pieces, with commits between. An order found the row of a piece."""
    monkeypatch.setattr(process, "AT_ONCE", 50)
    monkeypatch.setattr(overdue, "PIECE", 10)
    app = kstream.App("due")
    source, orders = app.topic("in", key=str, value=str), app.topic("orders", key=str, value=str)
    out = app.topic("out", key=str, value=str)
    ticks = app.stream(source).rekey(lambda value, ctx: ctx.key, key=str).process(Ticks, name="tick", value=str)
    table = ticks.rekey(lambda value, ctx: ctx.key, key=str).to_table("last")
    app.stream(orders).join(table, lambda order, row: f"{order}@{row}", how="left", name="j").to(out)
    start = 1_000_000_000
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"a", b"1", start, None, None)
        driver.commit()
        driver.cluster.append("in", b"b", b"1", start + 300_000, None, None)
        for turn in range(80):
            if turn == 4:
                driver.cluster.append("orders", b"a", b"o", start + 299_500, None, None)
            for worker in driver._open():
                worker.step()
                worker.commit_now()
        assert driver.values(out) == [f"o@{start + 299_000}"]


def test_a_savepoint_in_a_backlog_is_made_though_one_side_is_behind() -> None:
    """What is held brings nothing. The other side waited for it until the time was over."""
    app, _, _ = joined(["orders", "prices"])
    with TestDriver(app, partitions=1, poll_batch=1) as driver:
        for number in range(3):
            driver.cluster.append("orders", b"a", b"o", 1_000_000 + number, None, None)
        for number in range(100):
            driver.cluster.append("prices", b"a", b"p", 1000 + number, None, None)
        (worker,) = driver._open()
        for _ in range(20):
            worker.step()
            worker.commit_now()
        worker.savepoint.ask(Request("1", "first", "hold", 60.0, "unused"))
        for _ in range(20):
            for _ in range(10):
                worker.step()
            driver.clock.advance(1)
        answer = worker.savepoint.answers()[-1]
        assert all(part.quiet for part in answer.tasks.values())
