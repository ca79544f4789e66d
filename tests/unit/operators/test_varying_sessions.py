"""Sessions each of whose records says its gap, by their definition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Session, WindowedSpan
from kstream.errors import KStreamError, TopologyError
from kstream.state.expiry import ends_of
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, feed_between

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp. The value is the gap, in ms."""
Records = list[tuple[int, int, int]]
"""Timestamp, order and value of each."""


def gap(n: int) -> timedelta:
    return n * MS


def join(one: list[int], other: list[int]) -> list[int]:
    return one + other


def collect(values: list[int], n: int) -> list[int]:
    values.append(n)
    return values


def span(key: str, records: Records) -> WindowedSpan[str]:
    return WindowedSpan(key, min(records)[0], until(records))


def until(records: Records) -> int:
    return max(at + value for at, _, value in records)


def values(records: Records) -> list[int]:
    return sorted(value for _, _, value in records)


class Oracle:
    """Sessions as sets of records, looked at one record at a time."""

    def __init__(self, grace: int) -> None:
        self.grace = grace
        self.open: list[tuple[str, Records]] = []
        self.closed: list[tuple[WindowedSpan[str], list[int], int]] = []
        self.changes: list[tuple[WindowedSpan[str], list[int] | None]] = []
        self.late = self.order = 0

    def record(self, key: str, value: int, at: int, time: int) -> None:
        self.order += 1
        over = [one for one in self.open if until(one[1]) + self.grace < time]
        self.open = [one for one in self.open if one not in over]
        over.sort(key=lambda one: (until(one[1]), one[0]))
        self.closed += [(span(*one), values(one[1]), until(one[1])) for one in over]
        near = [
            one for one in self.open
            if one[0] == key and min(one[1])[0] <= at + value and at <= until(one[1])
        ]  # fmt: skip
        if not near and at + value + self.grace < time:
            self.late += 1
            return
        merged = [record for one in near for record in one[1]] + [(at, self.order, value)]
        now = span(key, merged)
        before = sorted({span(*one) for one in near} - {now}, key=lambda one: one.start)
        self.changes += [(one, None) for one in before]
        self.changes.append((now, values(merged)))
        self.open = [one for one in self.open if one not in near] + [(key, merged)]

    @property
    def last(self) -> dict[WindowedSpan[str], list[int]]:
        """The last result of each session that was not taken back."""
        return {window: found for window, found, _ in self.closed} | {span(*one): values(one[1]) for one in self.open}


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
@cases
@given(
    records=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 12), st.integers(0, 60).map(lambda at: 1000 + at)),
        min_size=1, max_size=40,
    ),
    grace=st.integers(0, 8), out_of_order=st.integers(0, 8), backend=st.sampled_from(["memory", "rocksdb"]),
    between=st.lists(st.sampled_from(["", "", "", *CUTS]), min_size=1, max_size=12),
    at_once=st.sampled_from([1, 2, 10_000]),
)  # fmt: skip
def test_sessions_are_what_their_definition_says(
    emit: Any, records: list[Input], grace: int, out_of_order: int, backend: str, between: list[str], at_once: int
) -> None:
    app = kstream.App("sessions")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    kind: Any = list[int] if emit == "close" else list[int] | None
    out = app.topic("out", key=WindowedSpan[str], value=kind)
    group = app.stream(source).group_by_key().window(Session(gap_of=gap), grace=grace * MS)
    table: Any = group.aggregate(list[int], collect, join, name="collected", value=list[int], emit=emit)
    table.to(out)
    oracle, latest = Oracle(grace), 0
    for key, value, at in records:
        latest = max(latest, at)
        oracle.record(key, value, at, latest - out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kstream.operators.session_aggregate.AT_ONCE", at_once)
        feed_between(driver, records, between)
        told = driver.records(out)
        found = [(one.key, None if one.value is None else sorted(one.value)) for one in told]
        if emit == "close":
            assert [(*one, record.timestamp) for one, record in zip(found, told, strict=True)] == oracle.closed
        elif emit == "update":
            assert found == oracle.changes
        if emit != "close":
            assert {key: value for key, value in dict(found).items() if value is not None} == oracle.last
        (task,) = driver.worker.tasks.values()
        late = sum(int(operator.dropped["late"]) for operator in task.plan.operators)
        assert late == oracle.late or "crash" in between
        driver.send(source, 1, key="z", timestamp=10_000)
        driver.commit()
        assert list(driver.table(table)) == ["z"]
        assert [place[8:] for place, _ in task_of(driver).backend.scan(ends_of("collected"))] == [b"z"]


def task_of(driver: TestDriver) -> Any:
    (task,) = driver.worker.tasks.values()
    return task


def test_a_long_record_holds_its_session_open_for_short_ones() -> None:
    app = kstream.App("sessions")
    source, late = app.topic("in", key=str, value=int), app.topic("late", key=str, value=int)
    out = app.topic("out", key=WindowedSpan[str], value=int)
    group = app.stream(source).group_by_key().window(Session(gap_of=gap), grace=10 * MS, late=late)
    group.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((500, 1000), (10, 1100), (10, 1500), (10, 1511), (5, 1502), (1, 3000), (9, 1000)):
            driver.send(source, n, key="a", timestamp=at)
        assert [(one.key.start, one.key.end, one.value, one.timestamp) for one in driver.records(out)] == [
            (1000, 1510, 4, 1510), (1511, 1521, 1, 1521),
        ]  # fmt: skip
        assert [(one.value, one.headers) for one in driver.records(late)] == [(9, [("kstream.late.by", b"1980")])]


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
def test_two_sessions_that_begin_at_one_time_are_two(emit: Any) -> None:
    app = kstream.App("sessions")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=int | None)
    group: Any = app.stream(source).group_by_key().window(Session(gap_of=gap), grace=0 * MS)
    group.sum(lambda n: n, name="sum", emit=emit).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 5, key="a", timestamp=1000)
        driver.send(source, 1, key="b", timestamp=1006)  # the session of a is over
        driver.send(source, 50, key="a", timestamp=1000)  # of a longer gap: another one
        driver.send(source, 40, key="a", timestamp=1050)  # that grows
        driver.send(source, 1, key="b", timestamp=2000)
        told = dict((one.key, one.value) for one in driver.records(out) if one.key.key == "a")
        assert {key: value for key, value in told.items() if value is not None} == {
            WindowedSpan("a", 1000, 1005): 5,
            WindowedSpan("a", 1000, 1090): 90,
        }


def test_a_record_whose_gap_is_none_fails_itself() -> None:
    app = kstream.App("sessions", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=int)
    group = app.stream(source).group_by_key().window(Session(gap_of=gap), grace=0 * MS)
    group.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((5, 1000), (0, 1001), (5, 1002), (5, 2000)):
            driver.send(source, n, key="a", timestamp=at)
        assert [(one.key.start, one.value) for one in driver.records(out)] == [(1000, 2)]
        (letter,) = driver.cluster.records("sessions-dead-letters")
        assert letter.value == b"0"


def test_what_the_function_returns_is_named() -> None:
    app = kstream.App("sessions")
    source: Any = app.topic("in", key=str, value=int)
    wrong: Any = lambda n: n  # noqa: E731
    app.stream(source).group_by_key().window(Session(gap_of=wrong), grace=0 * MS).count(name="n")
    with TestDriver(app, partitions=1) as driver:
        with pytest.raises(KStreamError, match="gap_of= of the sessions 'n' returned 5: it returns a timedelta"):
            driver.send(source, 5, key="a", timestamp=1000)
        driver.close(commit=False)


async def awaits(_: int) -> timedelta:
    return MS


class _Codec:
    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return data


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda g: Session(gap_of=gap, minutes=5), "Session: give it a gap, or gap_of="),
        (lambda g: Session(MS, gap_of=gap), "Session: give it a gap, or gap_of="),
        (lambda g: g.window(Session(gap_of=lambda n, m: MS), grace=MS), "takes 2"),
        (lambda g: g.window(Session(gap_of=awaits), grace=MS), "awaits"),
        (lambda g: g.window(Session(gap_of=gap), grace=MS).sum(lambda n: n, value=_Codec()), "kept as JSON"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("sessions")
    with pytest.raises(TopologyError) as error:
        declare(app.stream(app.topic("in", key=str, value=int)).group_by_key())
    assert said in str(error.value)
