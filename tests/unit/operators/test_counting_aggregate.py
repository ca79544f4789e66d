"""Windows of so many records: a result with each nth record of a key, whatever comes between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Counting
from kstream.errors import TopologyError
from kstream.specs.counting import Counted
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut


def collect(values: list[int], n: int) -> list[int]:
    values.append(n)
    return values


@cases
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 5), st.sampled_from(["memory", "rocksdb"]),
    st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
)  # fmt: skip
def test_a_result_with_each_nth_record_of_a_key(
    given_: list[tuple[str, int]], n: int, backend: str, between: list[str]
) -> None:
    app = kstream.App("counting")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[int])
    group = app.stream(source).group_by_key().window(Counting(n))
    group.aggregate(list[int], collect, name="collected", value=list[int]).to(out)
    open_: defaultdict[str, list[int]] = defaultdict(list)
    results = []
    for at, (key, value) in enumerate(given_):
        open_[key].append(value)
        if len(open_[key]) == n:
            results.append((key, open_.pop(key), 1000 + at))
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for at, (key, value) in enumerate(given_):
            driver.cluster.append("in", key.encode(), str(value).encode(), 1000 + at, None, 0)
            cut(driver, between[at % len(between)])
        driver.process()
        assert [(record.key, record.value, record.timestamp) for record in driver.records(out)] == results
        (task,) = driver.worker.tasks.values()
        kept = {key.decode(): value for key, value in task.stores["collected"].scan()}
        assert kept == {key: Counted(len(values), values) for key, values in open_.items() if values}


@pytest.mark.parametrize(
    ("aggregated", "values"),
    [
        (lambda g: g.sum(lambda n: n, value=int), [8, 9]),
        (lambda g: g.min(lambda n: n, value=int), [3, 2]),
        (lambda g: g.max(lambda n: n, value=int), [5, 7]),
        (lambda g: g.mean(lambda n: n).map(lambda n: int(10 * n), value=int), [40, 45]),
        (lambda g: g.count_distinct(lambda n: n % 2, of=int), [1, 2]),
        (lambda g: g.quantiles(lambda n: n, [0, 1]).map(lambda two: int(10 * two[0] + two[1]), value=int), [35, 27]),
        (lambda g: g.reduce(lambda a, b: 10 * a + b), [35, 27]),
        (lambda g: g.aggregate(int, lambda total, n, ctx: total + n * ctx.offset, value=int), [5, 25]),
    ],
)
def test_the_aggregations(aggregated: Any, values: list[int]) -> None:
    app = kstream.App("counting")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    aggregated(app.stream(source).group_by_key().window(Counting(2))).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (3, 5, 2, 7, 9):
            driver.cluster.append("in", b"a", str(n).encode(), 1000, None, 0)
        driver.process()
        driver.crash()
        assert driver.values(out) == values


def test_a_record_that_fails_is_not_counted() -> None:
    app = kstream.App("counting", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[int])

    def checked(values: list[int], n: int) -> list[int]:
        values.append(n)
        if n < 0:
            raise ValueError(n)
        return values

    group = app.stream(source).group_by_key().window(Counting(2))
    group.aggregate(list[int], checked, name="n", value=list[int]).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, -5, key="a")
        for n in (-1, 1, -2, 2, 3, -3, 4):
            driver.cluster.append("in", b"a", str(n).encode(), 1000, None, 0)
        driver.process()
        assert driver.values(out) == [[1, 2], [3, 4]]
        assert len(driver.cluster.records("counting-dead-letters")) == 4


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda g: Counting(0), "1 at least"),
        (lambda g: Counting(1.5), "no whole number"),
        (lambda g: g.window(Counting(3), grace=timedelta(0)), "leave grace= and late= out"),
        (lambda g: g.window(kstream.Tumbling(seconds=1)), "grace=None is not a timedelta"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("counting")
    with pytest.raises(TopologyError) as error:
        declare(app.stream(app.topic("in", key=str, value=int)).group_by_key())
    assert said in str(error.value)
