"""Aggregations against a plain loop over the records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.testing import TestDriver


class Stats(msgspec.Struct):
    values: list[int] = []
    offsets: list[int] = []


def add(stats: Stats, n: int, ctx: kstream.Context[str]) -> Stats:
    stats.values.append(n)
    stats.offsets.append(ctx.offset)
    return stats


def double(n: int) -> int:
    return 2 * n


#: What each aggregation is, as a function of all values of a key so far.
MODELS: dict[str, tuple[Callable[[Any, str], Any], Callable[[list[int]], Any], Any]] = {
    "count": (lambda group, emit: group.count(name="a", emit=emit), len, int),
    "sum": (lambda group, emit: group.sum(double, name="a", emit=emit), lambda v: 2 * sum(v), int),
    "min": (lambda group, emit: group.min(double, name="a", emit=emit), lambda v: 2 * min(v), int),
    "max": (lambda group, emit: group.max(double, name="a", emit=emit), lambda v: 2 * max(v), int),
    "reduce": (lambda group, emit: group.reduce(lambda a, b: a * 3 + b, name="a", emit=emit), None, int),
    "aggregate": (
        lambda group, emit: group.aggregate(Stats, add, name="a", emit=emit), lambda v: v, Stats,
    ),
}  # fmt: skip


def reduced(values: list[int]) -> int:
    result, *rest = values
    for value in rest:
        result = result * 3 + value
    return result


def driver_for(name: str, emit: str) -> tuple[TestDriver, Any, Any]:
    declare, _, kind = MODELS[name]
    app = kstream.App(f"aggregate-{name}-{emit}")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=kind)
    declare(app.stream(source).group_by_key(), emit).to(out)
    return TestDriver(app, partitions=1), source, out


records = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(-5, 5)), min_size=1, max_size=20)


@pytest.mark.parametrize("emit", ["update", "commit"])
@pytest.mark.parametrize("name", list(MODELS))
@given(records=records, cut=st.integers(1, 8), commit_at=st.sets(st.integers(0, 19), max_size=3))
def test_as_a_plain_loop_would(
    name: str, emit: str, records: list[tuple[str | None, int]], cut: int, commit_at: set[int]
) -> None:
    driver, source, out = driver_for(name, emit)
    driver.cluster.batch_sizes = iter([cut] * 40)
    model = MODELS[name][1] or reduced
    seen: dict[str, list[int]] = defaultdict(list)
    updates, changes, pending = [], [], {}
    for n, (key, value) in enumerate(records):
        driver.cluster.append(source.name, key and key.encode(), b"%d" % value, timestamp=100 + n)
        if key is not None:
            seen[key].append(value)
            updates.append((key, model(list(seen[key])), 100 + n))
            pending[key] = updates[-1]
        if n in commit_at:
            driver.commit()
            changes += pending.values()
            pending = {}
    driver.commit()
    changes += pending.values()
    found = [
        (record.key, record.value.values if name == "aggregate" else record.value, record.timestamp)
        for record in driver.records(out)
    ]
    if emit == "update":
        assert found == updates
    else:
        assert sorted(found, key=repr) == sorted(changes, key=repr)
    driver.close()


def test_the_context_in_a_fold_is_that_of_the_record() -> None:
    driver, source, out = driver_for("aggregate", "update")
    with driver:
        for key in ("a", None, "b", "a"):
            driver.cluster.append(source.name, key and key.encode(), b"7")
        assert [record.value.offsets for record in driver.records(out)] == [[0], [2], [0, 3]]


def left_out(driver: TestDriver) -> dict[str, int]:
    (task,) = driver.worker.tasks.values()
    return dict(sum((operator.dropped for operator in task.plan.operators), Counter[str]()))


def test_records_without_a_key_are_left_out_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    driver, source, out = driver_for("count", "update")
    with driver:
        for key in (None, b"a", None):
            driver.cluster.append(source.name, key, b"1")
        assert driver.values(out) == [1]
        assert left_out(driver) == {"no key": 2}
        assert "2 records without a key left out of a" in caplog.text


def test_what_is_left_out_is_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Not one for each batch: at a hundred a second that would be the whole log."""
    driver, source, _ = driver_for("count", "update")
    with driver:
        driver.cluster.batch_sizes = iter([1] * 1000)
        for count in (1, 999):
            for _ in range(count):
                driver.cluster.append(source.name, None, b"1")
            driver.commit()
        assert left_out(driver) == {"no key": 1000}
        assert [line for line in caplog.messages if "left out" in line] == ["1 record without a key left out of a"]
        driver.close()
    assert [line for line in caplog.messages if "left out" in line][1:] == ["999 records without a key left out of a"]


class Hex:
    def encode(self, value: int) -> bytes:
        return b"%x" % value

    def decode(self, data: bytes) -> int:
        return int(data, 16)


def test_a_sum_is_of_whatever_can_be_added() -> None:
    app = kstream.App("sums")
    source = app.topic("in", key=str, value=Decimal)
    group = app.stream(source).group_by_key()
    exact = group.sum(lambda n: n, value=Decimal, name="exact")
    untyped = group.sum(lambda n: int(n) + 0, name="untyped")
    times = group.sum(lambda n: timedelta(seconds=int(n)), value=timedelta, name="times")
    coded = group.sum(int, value=Hex(), name="coded")
    least, most = group.min(int, value=Hex(), name="least"), group.max(int, value=Hex(), name="most")
    counts = group.count(value=Hex(), name="counts")
    long = Decimal("1.00000000000000000000000000000000001")  # more digits than arithmetic with 0 leaves
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, long, key="one")
        for _ in range(15):
            driver.send(source, Decimal(1), key="many")
        assert dict(driver.table(exact)) == {"one": long, "many": Decimal(15)}
        assert driver.table(untyped)["many"] == driver.table(coded)["many"] == driver.table(counts)["many"] == 15
        assert driver.table(times)["many"] == timedelta(seconds=15)
        driver.send(source, Decimal(31), key="many")
        assert (driver.table(least)["many"], driver.table(most)["many"]) == (1, 31)
        assert driver.cluster.records("sums-most-changelog")[-1].value == b"1f"
        assert driver.cluster.records("sums-counts-changelog")[-1].value == b"10"


@dataclass
class Order:
    n: int
    at: datetime | None = None


@pytest.mark.parametrize("emit", ["update", "commit"])
def test_tombstones_are_left_out_and_counted(emit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As Kafka Streams does: neither key nor value may be null in an aggregation."""
    app = kstream.App("tombstones")
    source = app.topic("in", key=str, value=Order | None)
    group = app.stream(source).group_by_key()
    tables = [
        group.count(name="count", emit=emit),
        group.sum(lambda order: order.n, value=int, name="sum", emit=emit),
        group.min(lambda order: order.n, value=int, name="min", emit=emit),
        group.max(lambda order: order.n, value=int, name="max", emit=emit),
        group.reduce(lambda a, b: Order(a.n + b.n), name="reduce", emit=emit),
        group.aggregate(int, lambda total, order, ctx: total + order.n + 100 * ctx.offset, name="fold", emit=emit),
    ]
    with TestDriver(app, partitions=1) as driver:
        for n, value in enumerate((None, b'{"n":2}', None, b'{"n":3}', None)):
            driver.cluster.append("in", b"a" if n < 4 else None, value)
        assert [driver.table(table)["a"] for table in tables] == [2, 5, 2, 3, Order(5), 5 + 100 * (1 + 3)]
        assert left_out(driver) == {"no value": 2 * 6, "no key": 6}
    assert "2 records without a value left out of reduce" in caplog.messages


def test_a_tombstone_travels_through_a_repartition_and_is_left_out_behind_it() -> None:
    app = kstream.App("moved")
    source = app.topic("in", key=str, value=int | None)
    counts = app.stream(source).group_by(lambda n: "odd" if n is None or n % 2 else "even", key=str, name="by").count()
    with TestDriver(app, partitions=2) as driver:
        for value in (1, None, 2, 3):
            driver.send(source, value, key="k")
        assert dict(driver.table(counts)) == {"odd": 2, "even": 1}


def test_a_tombstone_has_the_time_of_its_record() -> None:
    app = kstream.App("times")
    source, out = (app.topic(name, key=str, value=Order | None, timestamp="at") for name in ("in", "out"))
    app.stream(source).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"a", b'{"n":1,"at":"1970-01-01T00:00:05Z"}', timestamp=77)
        driver.cluster.append("in", b"a", None, timestamp=78)
        assert [(record.value and record.value.n, record.timestamp) for record in driver.records(out)] == [
            (1, 5000), (None, 78),
        ]  # fmt: skip


def test_an_accumulator_may_be_anything_that_has_a_codec_and_lists_are_not_shared() -> None:
    app = kstream.App("lists")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[int])

    def extend(items: list[int], n: int) -> list[int]:
        items.append(n)
        return items

    app.stream(source).group_by_key().aggregate(list, extend, name="items", value=list[int]).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in range(3):
            driver.send(source, n, key="a")
        driver.send(source, 9, key="b")
        assert driver.values(out) == [[0], [0, 1], [0, 1, 2], [9]]


def test_a_table_of_an_aggregation_can_be_read_by_an_agent_in_step() -> None:
    """It shows each record the counts up to that record, not to the end of its batch."""
    app = kstream.App("lookup")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    counts = app.stream(source).group_by_key().count(name="n")

    @app.agent(source, to=out)
    def look(n: int, ctx: kstream.Context[str]) -> int:
        return counts[ctx.key]

    with TestDriver(app, partitions=1) as driver:
        for key in (b"a", b"b", b"a", b"a"):
            driver.cluster.append(source.name, key, b"1")
        assert driver.values(out) == [1, 1, 2, 3]


def test_a_value_kept_by_reduce_is_not_the_one_that_branches_beside_it_see() -> None:
    app = kstream.App("kept")
    source, out = app.topic("in", key=str, value=Stats), app.topic("out", key=str, value=list[int])
    group = app.stream(source).group_by_key()

    def newest(old: Stats, new: Stats) -> Stats:
        if len(new.values) == 1:
            return new
        old.values += new.values  # changes what was returned, and was a record's value, before
        return old

    group.reduce(newest, name="newest")
    group.stream().map(lambda stats: stats.values, value=list[int]).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (b"[1]", b"[2]", b"[3,4]"):
            driver.cluster.append(source.name, b"k", b'{"values":%s}' % n)
        assert driver.values(out) == [[1], [2], [3, 4]]
