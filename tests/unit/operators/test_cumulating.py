"""Windows that begin together, against their definition: each record is in those that end behind it."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Cumulating, WindowedSpan
from kstream.errors import TopologyError
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp."""


def by_definition(
    records: list[Input], step: int, steps: int, offset: int, wait: int
) -> tuple[list[tuple[WindowedSpan[str], list[int]]], dict[WindowedSpan[str], list[int]], int]:
    """What the windows that closed had in them, in the order in which they closed; what the others have; and how many
    records were too late for all of theirs."""
    open_: defaultdict[WindowedSpan[str], list[int]] = defaultdict(list)
    closed: list[tuple[WindowedSpan[str], list[int]]] = []
    time = late = 0
    for key, value, at in records:
        time = max(time, at)
        over = sorted((one for one in open_ if one.end + 1 + wait <= time), key=lambda one: (one.end, one.key))
        closed += [(one, open_.pop(one)) for one in over]
        begin = max(
            start for start in range(offset - 3 * step * steps, at + 1) if (start - offset) % (step * steps) == 0
        )
        ends = [begin + step * (n + 1) for n in range(steps)]
        into = [end for end in ends if at < end and end + wait > time]
        late += not into
        for end in into:
            open_[WindowedSpan(key, begin, end - 1)].append(value)
    return closed, dict(open_), late


def collect(values: list[int], n: int) -> list[int]:
    return [*values, n]


@cases
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 40).map(lambda at: 1000 + at)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 6), st.integers(1, 4), st.integers(-9, 9), st.integers(0, 6), st.integers(0, 6),
    st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
)  # fmt: skip
def test_windows_are_what_their_definition_says(
    given_: list[Input], step: int, steps: int, offset: int, grace: int, out_of_order: int, between: list[str]
) -> None:
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    out = app.topic("out", key=WindowedSpan[str], value=list[int])
    windows = Cumulating(step * steps * MS, step=step * MS, offset=offset * MS)
    group = app.stream(source).group_by_key().window(windows, grace=grace * MS)
    table = group.aggregate(list[int], collect, name="collected", value=list[int], emit="close")
    table.to(out)
    closed, open_, late = by_definition(given_, step, steps, offset, grace + out_of_order)
    with TestDriver(app, partitions=1) as driver:
        for number, (key, value, at) in enumerate(given_):
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
            cut(driver, between[number % len(between)])
        driver.process()
        assert [(record.key, record.value) for record in driver.records(out)] == closed
        assert all(record.timestamp == record.key.end for record in driver.records(out))
        assert dict(driver.table(table).items()) == open_
        if "crash" not in between:
            dropped = [one.dropped for task in driver.worker.tasks.values() for one in task.plan.operators]
            assert sum(int(one["late"]) for one in dropped) == late


def test_what_has_come_since_the_windows_began() -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=int)
    windows = Cumulating(hours=1, step=timedelta(minutes=20))
    group = app.stream(source).group_by_key().window(windows, grace=timedelta(0))
    group.sum(lambda n: n, value=int, name="sums").to(out)
    minute = 60_000
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=65 * minute)
        driver.send(source, 2, key="a", timestamp=90 * minute)
        found = [(one.key.start // minute, (one.key.end + 1) // minute, one.value) for one in driver.records(out)]
        assert found == [(60, 80, 1), (60, 100, 1), (60, 120, 1), (60, 100, 3), (60, 120, 3)]


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Cumulating(step=MS), "Cumulating: give it a size"),
        (lambda: Cumulating(seconds=1, step=0 * MS), "1 at least"),
        (lambda: Cumulating(seconds=1, step=300 * MS), "no whole multiple"),
        (lambda: Cumulating(seconds=1, step=2000 * MS), "no whole multiple"),
    ],
)
def test_what_cannot_be_is_refused(declare: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        declare()


def test_results_are_not_joined_with_those_of_others() -> None:
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int)
    group = app.stream(source).group_by_key().window(Cumulating(seconds=1, step=100 * MS), grace=0 * MS)
    counts = group.count(name="n")
    with pytest.raises(TopologyError, match="goes when it closes"):
        counts.stream().join(counts, lambda a, b: a)
