"""Days of a time zone: they begin when its clocks reach midnight, whatever these do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kstream import LocalDays
from kstream.errors import TopologyError
from kstream.specs.local_days import zone_named
from kstream.state.watermark import UNKNOWN
from support.sql import database, fill

DAY = 86_400_000
MINUTE = 60_000
EPOCH = datetime(1970, 1, 1)
ZONES = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Asia/Tehran", "UTC", "Africa/Cairo",
    "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Asia/Gaza", "America/Asuncion", "Atlantic/Azores",
    "America/St_Johns", "Pacific/Apia", "Pacific/Kwajalein", "Antarctica/Troll", "Africa/Casablanca", "Europe/Dublin",
    "America/Toronto", "Pacific/Chatham", "America/Scoresbysund",
]  # fmt: skip
zones = st.sampled_from(ZONES)
minutes = st.integers(1973 * 525_949 - 1970 * 525_949, 2040 * 525_949 - 1970 * 525_949)
"""Since the epoch: 1973 to 2040. Before, clocks changed at odd seconds."""


def ms(*local: int, zone: str) -> int:
    return round(datetime(*local, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[arg-type, misc]


def shown(at: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at / 1000, zone).replace(tzinfo=None)


@given(zones, minutes, st.integers(1, 8), st.sampled_from([0, 4 * 24 * 60, 6 * 60, 90, -30]))
@example("America/Sao_Paulo", 25_690_000, 1, 0)
@example("Pacific/Apia", 22_088_800, 1, 0)
def test_a_day_begins_when_clocks_reach_midnight(name: str, minute: int, days: int, offset: int) -> None:
    """Gone through minute by minute: the first at which the clocks show that time of the day, or a later one."""
    zone, windows = zone_named(name), LocalDays(name, days=days, offset=timedelta(minutes=offset))
    at = minute * MINUTE
    start = windows.last_start(at)
    end = windows.end_of(start)
    assert start <= at < end
    begins = EPOCH + timedelta(minutes=offset)
    first, last = ((shown(one, zone) - begins) // timedelta(days=days) for one in (start, end))
    assert last > first
    for instant, number in ((start, first), (end, last)):
        wanted = begins + number * timedelta(days=days)
        assert shown(instant, zone) >= wanted
        before = [shown(instant - MINUTE * back, zone) for back in range(1, 30 * 60)]
        assert max(before) < wanted


@given(zones, st.lists(minutes, min_size=1, max_size=30))
def test_days_are_those_of_sql(name: str, at: list[int]) -> None:
    """But where clocks go back from behind midnight to before it: there SQL is in the old day for a while again."""
    windows = LocalDays(name)
    with database() as sql:
        sql.execute("create table t (n int, ms bigint)")
        fill(sql, "t", [(n, one * MINUTE) for n, one in enumerate(at)])
        found = sql.execute(
            f"select ms, date_trunc('day', make_timestamptz(ms * 1000) at time zone '{name}') from t order by n"
        ).fetchall()
    zone = zone_named(name)
    for one, day in found:
        start = windows.last_start(one)
        assert day == shown(one, zone).replace(hour=0, minute=0)  # the two know the same clocks
        if (day - shown(start, zone).replace(hour=0, minute=0)).days:
            assert max(shown(one - MINUTE * back, zone) for back in range(120)) >= day + timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 11, 30), 24),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("America/Sao_Paulo", (2018, 11, 4), 23),  # begins at one o'clock
        ("America/Sao_Paulo", (2018, 2, 17), 25),  # from midnight back to eleven
        ("Asia/Kathmandu", (2026, 1, 1), 24),
    ],
)
def test_how_long_days_are(zone: str, day: tuple[int, int, int], hours: float) -> None:
    windows = LocalDays(zone)
    noon = ms(*day, 12, zone=zone)
    start = windows.last_start(noon)
    assert windows.end_of(start) - start == hours * 3_600_000
    assert windows.starts_of([noon, start, start - 1, windows.end_of(start)]) == [
        start, start, windows.last_start(start - 1), windows.end_of(start),
    ]  # fmt: skip


def test_a_day_that_was_skipped_has_no_time() -> None:
    windows = LocalDays("Pacific/Apia")
    before, behind = ms(2011, 12, 29, 12, zone="Pacific/Apia"), ms(2011, 12, 31, 12, zone="Pacific/Apia")
    assert windows.end_of(windows.last_start(before)) == windows.last_start(behind)


def test_midnight_that_is_in_the_midst_of_what_is_skipped() -> None:
    """Clocks went from 23:30 to 00:30: the day begins there."""
    start = LocalDays("America/Toronto").last_start(ms(1919, 3, 31, 12, zone="America/Toronto"))
    assert shown(start, ZoneInfo("America/Toronto")) == datetime(1919, 3, 31, 0, 30)


def test_weeks_begin_when_they_are_told_to() -> None:
    windows = LocalDays("Europe/Berlin", days=7, offset=timedelta(days=4))
    start = windows.last_start(ms(2026, 11, 30, 0, 30, zone="Europe/Berlin"))  # a Monday
    assert start == ms(2026, 11, 30, zone="Europe/Berlin")
    assert windows.last_start(start - 1) == ms(2026, 11, 23, zone="Europe/Berlin")
    assert str(windows) == "7 days of Europe/Berlin from 4 days, 0:00:00"


@pytest.mark.parametrize("at", [UNKNOWN, -1, 0, 253_402_300_800_000, 1 << 62, -62_135_596_800_001])
def test_any_time_is_in_a_window(at: int) -> None:
    for name in ZONES:
        windows = LocalDays(name)
        start = windows.last_start(at)
        assert start <= at < windows.end_of(start)
        assert windows.last_start(start) == start


def test_zones_are_those_of_the_package() -> None:
    assert zone_named("Europe/Berlin") is zone_named("Europe/Berlin")
    assert datetime(2026, 7, 1, tzinfo=UTC).astimezone(zone_named("America/Argentina/Buenos_Aires")).hour == 21


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: LocalDays("Berlin"), "'Berlin' is not the name of a time zone: is it 'Europe/Berlin'?"),
        (lambda: LocalDays("../zones"), "'../zones' is not the name of a time zone"),
        (lambda: LocalDays(5), "5 is not the name"),
        (lambda: LocalDays("UTC", days=0), "days=0 is no whole number from 1"),
        (lambda: LocalDays("UTC", days=1.5), "days=1.5 is no whole number"),
        (lambda: LocalDays("UTC", offset=3), "offset=3 is not a timedelta"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(declare: Any, said: str) -> None:
    with pytest.raises(TopologyError) as error:
        declare()
    assert said in str(error.value)
