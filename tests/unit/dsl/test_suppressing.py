"""`suppress`: changes of a table that are told later, and once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, TopologyError
from kstream.testing import TestDriver
from support.cases import cases

ERA = 10_000


def app_of(after: int, clock: Any = "event") -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("suppressed")
    rows = app.topic("rows", key=str, value=str | None, partitions=1)
    out = app.topic("out", key=str, value=str | None, partitions=1)
    table = app.stream(rows).to_table("rows")
    told = table.suppress(timedelta(milliseconds=after), name="told", clock=clock)
    told.to(out)
    return app, rows, told, out


ROW = st.tuples(st.sampled_from("kl"), st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 60))


@cases
@given(
    rows=st.lists(ROW, max_size=40), after=st.integers(1, 15),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["process", "crash", "abort", "commit"])), max_size=6),
)  # fmt: skip
def test_a_row_is_told_when_it_is_due_as_it_is_then(
    rows: list[tuple[str, str | None, int]], after: int, cuts: list[tuple[int, str]]
) -> None:
    """However the input is cut, with crashes and aborts in between. Of one that came and went meanwhile nothing is
    told; one that has passed its time already, for it came late, is told when time goes on."""
    app, _, told, out = app_of(after)
    now, due, last = -1, dict[str, int](), dict[str, str | None]()
    table, wanted = dict[str, str](), list[tuple[str, str | None, int]]()
    with TestDriver(app) as driver:
        for place, (key, value, at) in enumerate(rows):
            driver.cluster.append("rows", key.encode(), None if value is None else value.encode(), timestamp=ERA + at)
            if at > now:
                now = at
                for when, one in sorted((when, one) for one, when in due.items() if when < now):
                    del due[one]
                    if (row := last[one]) is not None:
                        table[one] = row
                    elif table.pop(one, None) is None:
                        continue
                    wanted.append((one, row, when))
            last[key] = value
            due.setdefault(key, at + after)
            what = dict(cuts).get(place, "")  # one at most, so that an abort has something to take back
            if what == "abort":
                driver.process()
                driver.cluster.fail_next("producer.commit", AbortRequired("planned"))
                driver.commit()
            elif what:
                getattr(driver, what)()
        assert [(one.key, one.value, one.timestamp - ERA) for one in driver.records(out)] == wanted
        assert dict(driver.table(told)) == table


def test_by_the_wall_clock_a_quiet_topic_is_told_too() -> None:
    app, rows, told, out = app_of(5_000, "wall")
    with TestDriver(app) as driver:
        for value in "abc":
            driver.send(rows, value, key="k")
        driver.advance(4)
        assert driver.values(out) == []
        driver.crash()
        driver.advance(2)
        assert driver.values(out) == ["c"]
        assert dict(driver.table(told)) == {"k": "c"}


def test_it_can_be_joined_and_goes_by_undeclared_types() -> None:
    app = kstream.App("joined")
    numbers, out = app.topic("numbers", key=str, value=int), app.topic("out", key=str, value=str)
    table = app.stream(numbers).map(lambda n: {"n": n}).to_table("rows").suppress(timedelta(seconds=1), name="told")
    app.stream(numbers).join(table, lambda n, row: f"{n} {row}", value=str).to(out)
    with TestDriver(app, partitions=1) as driver:
        for at, n in ((10_000, 1), (10_500, 2), (11_001, 3), (11_002, 4)):
            driver.send(numbers, n, key="k", timestamp=at)
        assert driver.values(out)[-1] == "4 {'n': 2}"


def test_what_is_refused() -> None:
    app = kstream.App("refused")
    numbers = app.topic("numbers", key=int, value=int)
    table = app.stream(numbers).to_table("numbers")
    counts = app.stream(numbers).group_by_key().count(name="timed", ttl=kstream.TTL(hours=1))
    windows = app.stream(numbers).group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(0))
    for one, after, named, said in (
        (table, timedelta(0), {}, "1 at least"),
        (table, 5, {}, "is not a timedelta"),
        (table, timedelta(1), {"clock": "sun"}, "neither 'event' nor 'wall'"),
        (counts, timedelta(1), {}, "expire"),
        (windows.count(name="windows"), timedelta(1), {}, "a row for each window"),
    ):
        asked: Any = one
        with pytest.raises(TopologyError, match=said):
            asked.suppress(after, name="told", **named)
