"""Joins with a table where one side has travelled through a repartition topic: a backlog gives what its records' times
say, however far the tasks before are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.operators.marks import Mark, mark_of
from kstream.state.watermark import IDLE, UNKNOWN, Watermark
from kstream.testing import TestDriver


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
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["orders", "prices"]), st.sampled_from("ab"), st.integers(1, 20)), min_size=1,
        max_size=30,
    ),
    poll=st.sampled_from([1, 3, 500]),
    crashes=st.lists(st.integers(0, 60), max_size=3),
    steps=st.sampled_from([1, 2]),
    every=st.integers(1, 4),
)  # fmt: skip
def test_a_backlog_is_joined_in_the_order_of_its_times(
    travels: list[str], rows: list[tuple[str, str, int]], poll: int, crashes: list[int], steps: int, every: int
) -> None:
    """Batches of any size, a commit every few turns, crashes between: the tasks before are behind all the time."""
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
        for number, (side, key, at) in enumerate(rows):
            stamp = 1000 + 10 * at + (side == "orders")  # no two sides at one time
            # each partition is fed by one task, which has all keys that belong there
            driver.cluster.append(side, key.encode(), f"{side[0]}{number}".encode(), stamp, None, None)
        for turn in range(60):
            for worker in driver._open():
                worker.step()
                if turn % every == 0:
                    worker.commit_now()
            if turn in crashes:
                driver.crash()
        records = driver.records(out)
    assert {key: [one.value for one in records if one.key == key] for key in wanted} == wanted


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
