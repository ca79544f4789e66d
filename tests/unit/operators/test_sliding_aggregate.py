"""Windows that slide with their records, against SQL and against their definition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Sliding
from kstream.errors import TopologyError
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut
from support.sql import database, fill

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp."""


def collect(values: list[int], n: int) -> list[int]:
    values.append(n)
    return values


def by_definition(
    records: list[Input], size: int, grace: int, out_of_order: int
) -> tuple[list[tuple[str, list[int], int]], int]:
    """The results in their order, and how many records were too late."""
    kept: list[tuple[int, int, str, int]] = []  # time, order, key, value
    results: list[tuple[str, list[int], int]] = []
    latest = late = 0
    for order, (key, value, at) in enumerate(records):
        latest = max(latest, at)
        if at < latest - out_of_order - grace:
            late += 1
            continue
        kept.append((at, order, key, value))
        results.append((key, [v for t, _, k, v in sorted(kept) if k == key and at - size <= t <= at], at))
    return results, late


@cases
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 60).map(lambda at: 1000 + at)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 20), st.integers(0, 8), st.integers(0, 8), st.sampled_from(["memory", "rocksdb"]),
    st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
)  # fmt: skip
def test_windows_are_what_their_definition_says(
    given_: list[Input], size: int, grace: int, out_of_order: int, backend: str, between: list[str]
) -> None:
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    out = app.topic("out", key=str, value=list[int])
    group = app.stream(source).group_by_key().window(Sliding(size * MS), grace=grace * MS)
    group.aggregate(list[int], collect, name="collected", value=list[int]).to(out)
    results, late = by_definition(given_, size, grace, out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for number, (key, value, at) in enumerate(given_):
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
            cut(driver, between[number % len(between)])
        driver.process()
        assert [(record.key, record.value, record.timestamp) for record in driver.records(out)] == results
        (task,) = driver.worker.tasks.values()
        if "crash" not in between:
            assert sum(int(one.dropped["late"]) for one in task.plan.operators) == late
        driver.send(source, 1, key="z", timestamp=10_000)
        driver.commit()
        assert len(list(task.backend.scan("collected"))) == 1  # what no record reaches back to has left


@cases
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 15)), min_size=1, max_size=40),
    st.integers(1, 40),
)
def test_results_are_those_of_sql(steps: list[tuple[str, int, int]], size: int) -> None:
    at, rows = 1000, []
    for key, value, step in steps:
        at += step
        rows.append((key, value, at))
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int)
    outs: dict[str, Any] = {name: app.topic(name, key=str, value=int) for name in ("count", "sum", "min", "max")}
    group = app.stream(source).group_by_key().window(Sliding(size * MS), grace=0 * MS)
    group.count(name="c").to(outs["count"])
    for name in ("sum", "min", "max"):
        getattr(group, name)(lambda n: n, value=int, name=name).to(outs[name])
    outs["avg"], outs["quantiles"] = app.topic("avg", key=str, value=float), app.topic("q", key=str, value=list[float])
    outs["distinct"] = app.topic("distinct", key=str, value=int)
    group.mean(lambda n: n, name="m").to(outs["avg"])
    group.quantiles(lambda n: n, [0.3, 1, 0.5], name="q").to(outs["quantiles"])
    group.count_distinct(lambda n: n, name="d", of=int).to(outs["distinct"])
    with TestDriver(app, partitions=1) as driver:
        for key, value, at in rows:
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
        driver.process()
        found = list(zip(*(driver.values(topic) for topic in outs.values()), strict=True))
    with database() as sql:
        sql.execute("create table t (k varchar, v bigint, ts bigint)")
        fill(sql, "t", rows)
        over = f"over (partition by k order by ts range between {size} preceding and current row)"
        called = [f"{name}(v) {over}" for name in ("count", "sum", "min", "max", "avg")]
        called += [f"quantile_disc(v, [0.3, 1, 0.5]) {over}", f"count(distinct v) {over}"]
        assert found == sql.sql(f"select {', '.join(called)} from t order by ts").fetchall()


def test_none_and_zeros_among_distinct_values_and_what_is_no_number() -> None:
    app = kstream.App("windows", on_error=[kstream.Skip()])
    source, other = app.topic("in", key=str, value=float), app.topic("other", key=str, value=float)
    out, numbers = app.topic("out", key=str, value=int), app.topic("numbers", key=str, value=list[float])
    group = app.stream(source).group_by_key().window(Sliding(minutes=1), grace=timedelta(0))
    group.count_distinct(lambda n: None if n == 5 else n, of=float, name="d").to(out)
    group = app.stream(other).group_by_key().window(Sliding(minutes=1), grace=timedelta(0))
    group.quantiles(lambda n: float("inf") if n == 5 else n, [0, 1], name="q").to(numbers)
    with TestDriver(app, partitions=1) as driver:
        for topic in (source, other):
            for n in (0.0, -0.0, 5.0, 1.5):
                driver.send(topic, n, key="a", timestamp=60_000)
        assert driver.values(out) == [1, 1, 1, 2]
        assert driver.values(numbers) == [[0.0, 0.0], [0.0, 0.0], [0.0, 1.5]]


def test_a_result_for_each_record_over_the_last_while() -> None:
    app = kstream.App("windows")
    source, out, late = (app.topic(name, key=str, value=int) for name in ("in", "out", "late"))
    group = app.stream(source).group_by_key().window(Sliding(minutes=1), grace=timedelta(seconds=10), late=late)
    group.sum(lambda n: n, value=int, name="sums").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((1, 60_000), (2, 120_000), (4, 120_001), (8, 115_000), (16, 110_000)):
            driver.send(source, n, key="a", timestamp=at)
        assert driver.values(out) == [1, 3, 6, 9]
        assert [(one.value, one.headers) for one in driver.records(late)] == [(16, [("kstream.late.by", b"0")])]


def test_so_much_more_grace_and_a_millisecond_would_have_kept_it() -> None:
    for more, kept in ((0, False), (1, True)):
        app = kstream.App("windows")
        source, out, late = (app.topic(name, key=str, value=int) for name in ("in", "out", "late"))
        grace = timedelta(milliseconds=10 + 57 * more + more)
        group = app.stream(source).group_by_key().window(Sliding(minutes=1), grace=grace, late=late)
        group.count(name="counts").to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, 1, key="a", timestamp=1000)
            driver.send(source, 1, key="a", timestamp=1000 - 10 - 58)
            assert len(driver.values(out)) == 1 + kept
            assert [one.headers for one in driver.records(late)] == [[("kstream.late.by", b"57")]] * (not kept)


def test_a_function_that_changes_what_it_is_given_changes_no_other_result() -> None:
    app = kstream.App("windows")
    source, out = (app.topic(name, key=str, value=dict) for name in ("in", "out"))

    def into(total: dict[str, int], new: dict[str, int]) -> dict[str, int]:
        total["n"] += new["n"]
        new["n"] = 99
        return total

    made = app.stream(source).map(lambda value: {"n": value["n"]}, value=dict)
    made.group_by_key().window(Sliding(10 * MS), grace=0 * MS).reduce(into, name="r").to(out)
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 1005, 1009):
            driver.cluster.append("in", b"a", b'{"n":1}', at, None, 0)
        driver.process()
        driver.crash()
        driver.send(source, {"n": 1}, key="a", timestamp=1010)
        assert driver.values(out) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_a_record_that_fails_is_in_no_window() -> None:
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def checked(n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return n

    group = app.stream(source).group_by_key().window(Sliding(10 * MS), grace=0 * MS)
    group.sum(checked, name="sums").to(out)
    group.aggregate(int, lambda total, n: total + checked(n), value=int, name="folded")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, -5, key="a", timestamp=999)
        for n, at in ((1, 1000), (-1, 1001), (2, 1002), (-3, 1003), (4, 1004)):
            driver.cluster.append("in", b"a", str(n).encode(), at, None, 0)
        driver.process()
        assert driver.values(out) == [1, 3, 7]
        assert len(driver.cluster.records("windows-dead-letters")) == 3


class _Codec:
    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return data


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda g: Sliding(), "Sliding: give it a size"),
        (lambda g: g.window(Sliding(MS), grace=5), "grace=5 is not a timedelta"),
        (lambda g: g.window(Sliding(MS), grace=MS).sum(lambda n: n, value=_Codec()), "records are kept as JSON"),
        (lambda g: g.window(Sliding(MS), grace=MS).aggregate(int, lambda a, n, ctx: a), "takes 3"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("windows")
    with pytest.raises(TopologyError) as error:
        declare(app.stream(app.topic("in", key=str, value=int)).group_by_key())
    assert said in str(error.value)
