"""Tasks of one worker tell the time together: with several workers, those behind them hear of all of them."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling
from kstream.runtime.cluster.control import Request
from kstream.types import TopicPartition
from support.cases import examples
from unit.runtime.harness import Fleet

MS = timedelta(milliseconds=1)
ROW = st.tuples(st.sampled_from(["orders", "prices"]), st.sampled_from("abcd"))


def app_of() -> kstream.App:
    app = kstream.App("behind")
    topics = [app.topic(name, key=str, value=str) for name in ("orders", "prices", "out")]
    orders, prices, out = topics
    table: Any = app.stream(prices).rekey(lambda value, ctx: ctx.key, key=str).to_table("prices")
    app.stream(orders).join(table, lambda order, price: f"{order}@{price}", how="left", name="j").to(out)
    return app


@examples(8)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40), poll=st.sampled_from([1, 3, 500]), idle=st.booleans(),
    crashes=st.lists(st.tuples(st.integers(1, 60), st.sampled_from("ab")), max_size=3),
)  # fmt: skip
def test_a_backlog_of_two_workers_is_joined_in_the_order_of_its_times(
    rows: list[tuple[str, str]], poll: int, idle: bool, crashes: list[tuple[int, str]]
) -> None:
    """They were idle, and said so, before they were away; and one of them dies now and then."""
    wanted, prices = defaultdict[str, list[str]](list), dict[str, str]()
    with TemporaryDirectory() as directory:
        fleet = Fleet(app_of(), Path(directory), partitions=4, poll_batch=poll)
        for name in "ab" if idle else "":
            fleet.start(name)
        if idle:
            fleet.step(times=20, seconds=0.3)
            for name in "ab":
                fleet.crash(name)
        for number, (topic, key) in enumerate(rows):
            value = f"{topic[0]}{number}"
            fleet.cluster.append(topic, key.encode(), value.encode(), 1000 + 20 * number, None, None)
            if topic == "prices":
                prices[key] = value
            else:
                wanted[key].append(f"{value}@{prices.get(key)}")
        for name in "ab":
            fleet.start(name)
        for turn in range(600):
            fleet.step(seconds=0.3)
            if turn > 60 and len(fleet.cluster.records("out")) >= sum(map(len, wanted.values())):
                break
            for name in [name for when, name in crashes if when == turn]:
                fleet.crash(name)
                fleet.start(name)
        found = defaultdict[str, list[str]](list)
        for record in fleet.cluster.records("out"):
            found[(record.key or b"").decode()].append((record.value or b"").decode())
        assert found == wanted
        fleet.close()


@pytest.mark.parametrize("seed", [27, 28])
def test_a_backlog_after_a_quiet_time_has_no_late_records(seed: int, tmp_path: Path) -> None:
    """Two workers are idle, say so, and die before all who read that have committed it."""
    random = Random(seed)
    app = kstream.App("x")
    source, late = app.topic("in", key=str, value=str), app.topic("late", key=str, value=str)
    group = app.stream(source).group_by(lambda value: value[0], key=str, name="by")
    group.window(Tumbling(100 * MS), grace=0 * MS, late=late).count(name="n", emit="close")
    fleet, sent = Fleet(app, tmp_path, partitions=4, poll_batch=1), 0

    def send(rows: int) -> None:
        nonlocal sent
        for number in range(sent, sent + rows):
            key, value = f"k{random.randrange(12)}", random.choice("abc")
            fleet.cluster.append("in", key.encode(), value.encode(), 1000 + 20 * number, None, None)
        sent += rows

    def ahead(partition: int) -> int:
        at = TopicPartition("x-by-repartition", partition)
        return fleet.cluster.log(at).end - fleet.committed(at.topic).get(partition, 0)

    for name in "ab":
        fleet.start(name)
    send(20)
    fleet.step(times=60, seconds=0.3)
    while any(ahead(partition) < 2 for partition in range(4)):
        fleet.step(random.choice("ab"), seconds=0.3)
    for name in "ab":
        fleet.crash(name)
    send(random.randrange(20, 120))
    for name in "ab":
        fleet.start(name)
    while not fleet.workers["a"].tasks or any(
        task.restored_at is not None for task in fleet.workers["a"].tasks.values()
    ):
        fleet.step(seconds=0.05)
    fleet.step("b", times=60, seconds=0.15)
    fleet.step(times=200, seconds=0.15)
    assert not fleet.cluster.records("late")
    fleet.close()


@pytest.mark.parametrize("names", ["a", "ab"])
def test_what_came_while_inputs_were_held_is_joined_in_the_order_of_its_times(names: str, tmp_path: Path) -> None:
    """Tasks before say that they are through while a savepoint holds their inputs, else those behind would not run
    dry. They have records when they are released."""
    fleet = Fleet(app_of(), tmp_path, partitions=2)
    for name in names:
        fleet.start(name)
    fleet.step(times=60, seconds=0.3)
    for name in names:
        fleet.workers[name].savepoint.ask(Request("1", "first", "hold", 60.0, "unused"))
    wanted = list[str]()
    for number in range(20):
        for topic, value in (("prices", f"p{number}"), ("orders", f"o{number}")):
            fleet.cluster.append(topic, b"a", value.encode(), 1000 + 20 * number, None, None)
        wanted.append(f"o{number}@p{number - 1}" if number else "o0@None")  # of one time, the order is first
        fleet.step(seconds=0.3)
    for name in names:
        fleet.workers[name].savepoint.ask(Request("1", "first", "resume", 60.0, "unused"))
    fleet.step(times=100, seconds=0.1)
    found = [(record.value or b"").decode() for record in fleet.cluster.records("out")]
    assert found == wanted
    fleet.close()
