"""Aggregations over days of a time zone, against the zone's own clocks: cut, committed and crashed at random."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import LocalDays, WindowedSpan
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut

MINUTE = 60_000
BERLIN = ZoneInfo("Europe/Berlin")
BEGINS = {"spring": datetime(2022, 3, 26), "autumn": datetime(2022, 10, 29)}  # the day before one of 23 or 25 hours


def midnight(day: datetime) -> int:
    return round(day.replace(tzinfo=BERLIN).timestamp() * 1000)


def day_of(at: int) -> tuple[int, int]:
    day = datetime.fromtimestamp(at / 1000, BERLIN).replace(hour=0, minute=0, fold=0, tzinfo=None)
    return midnight(day), midnight(day + timedelta(days=1)) - 1


@cases
@given(
    st.sampled_from(sorted(BEGINS)),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 4 * 24 * 4)), min_size=1, max_size=30
    ),
    st.sampled_from([0, 30, 600]),
    st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
)  # fmt: skip
def test_windows_are_days(season: str, given_: list[tuple[str, int, int]], grace: int, between: list[str]) -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=list[int])
    late = app.topic("late", key=str, value=int)
    group = app.stream(source).group_by_key().window(
        LocalDays("Europe/Berlin"), grace=timedelta(minutes=grace), late=late
    )  # fmt: skip
    table = group.collect(name="collected", emit="close")
    table.to(out)

    open_: defaultdict[WindowedSpan[str], list[int]] = defaultdict(list)
    closed: list[tuple[WindowedSpan[str], list[int]]] = []
    time, too_late = 0, []
    with TestDriver(app, partitions=1) as driver:
        for number, (key, value, quarter) in enumerate(given_):
            at = midnight(BEGINS[season]) + quarter * 15 * MINUTE
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
            time = max(time, at)
            over = sorted(one for one in open_ if one.end + 1 + grace * MINUTE <= time)
            closed += [(one, open_.pop(one)) for one in sorted(over, key=lambda one: (one.start, one.key))]
            start, end = day_of(at)
            if end + 1 + grace * MINUTE <= time:
                too_late.append(time - end - 1 - grace * MINUTE)
            else:
                open_[WindowedSpan(key, start, end)].append(value)
            cut(driver, between[number % len(between)])
        assert [(record.key, record.value) for record in driver.records(out)] == closed
        assert all(record.timestamp == record.key.end for record in driver.records(out))
        assert dict(driver.table(table).items()) == open_
        by: list[Any] = [record.headers for record in driver.records(late)]
        assert by == [[("kstream.late.by", str(ms).encode())] for ms in too_late]


def test_a_table_of_days_is_read_by_its_keys() -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[int])
    days = app.stream(source).group_by_key().window(LocalDays("Europe/Berlin"), grace=timedelta(0))
    table = days.sum(lambda n: n, value=int, name="sums")

    def of_day(value: int, ctx: kstream.Context[str]) -> list[int]:
        start, end = day_of(ctx.timestamp)
        return [table.get(WindowedSpan(ctx.key, start, end)) or 0, value]

    app.stream(source).map(of_day, value=list[int]).to(out)
    with TestDriver(app, partitions=1) as driver:
        for value, hour in ((1, 0), (2, 22), (4, 23)):
            day = midnight(BEGINS["spring"] + timedelta(days=1))
            driver.send(source, value, key="a", timestamp=day + hour * 3_600_000)
        assert driver.values(out) == [[1, 1], [3, 2], [4, 4]]
