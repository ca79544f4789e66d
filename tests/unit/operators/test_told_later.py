"""Results that are told later than their records come: what could not be told is refused when its record comes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import kstream
from kstream import Counting, Cumulating, Hopping, KafkaSliding, Session, Sliding, Tumbling, Windowed, WindowedSpan
from kstream.testing import TestDriver

MS, NONE = timedelta(milliseconds=1), timedelta(0)


class Reading(msgspec.Struct):
    at: int
    n: Any = 1


def left_out(windows: Any, declare: Any, readings: list[Reading], result: Any = Any) -> tuple[list[Any], list[int]]:
    """What is told of these readings; and the places of those that were left out."""
    app = kstream.App("told", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=Reading, timestamp="at")
    spans = isinstance(windows, Session | Cumulating)
    key: Any = str if isinstance(windows, Sliding | Counting | None) else (WindowedSpan if spans else Windowed)[str]
    group: Any = app.stream(source).group_by_key()
    if windows is not None:
        group = group.window(windows) if isinstance(windows, Counting) else group.window(windows, grace=NONE)
    out = app.topic("out", key=key, value=result)
    declare(group).to(out)
    with TestDriver(app, partitions=1) as driver:
        for reading in readings:
            driver.send(source, reading, key="k")
        driver.commit()
        driver.crash()
        driver.commit()
        letters = [msgspec.json.decode(one.value or b"", type=Reading) for one in dead_letters(driver)]
        return driver.values(out), [readings.index(one) for one in letters]


def dead_letters(driver: TestDriver) -> list[Any]:
    cluster: Any = driver.cluster
    return list(cluster.records("told-dead-letters"))


@pytest.mark.parametrize("windows", [Tumbling(seconds=1), Hopping(seconds=2, every=MS * 1000), None], ids=str)
def test_a_record_of_the_epoch_whose_result_is_told_at_the_commit(windows: Any) -> None:
    """Those of windows that close, and of sessions: test_epoch.py."""
    given = [Reading(0), Reading(5000), Reading(15000)]
    _, out = left_out(windows, lambda group: group.count(name="n", emit="commit"), given, int)
    assert out == [0]


def test_a_record_of_the_epoch_is_folded_where_nothing_is_told_at_the_commit() -> None:
    app = kstream.App("told")
    source = app.topic("in", key=str, value=Reading, timestamp="at")
    table = app.stream(source).group_by_key().count(name="n", emit="commit")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, Reading(0), key="k")
        driver.commit()
        assert driver.table(table)["k"] == 1


@pytest.mark.parametrize(
    "windows", [Tumbling(seconds=1), Session(seconds=1), Sliding(seconds=1), KafkaSliding(seconds=1)]
)
def test_a_late_record_of_the_epoch(windows: Any) -> None:
    app = kstream.App("told", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=Reading, timestamp="at")
    late = app.topic("late", key=str, value=Reading)
    app.stream(source).group_by_key().window(windows, grace=NONE, late=late).count(name="n")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, Reading(50_000), key="k")
        driver.send(source, Reading(0), key="k")
        driver.send(source, Reading(1), key="k")
        driver.commit()
        assert [record.timestamp for record in driver.records(late)] == [1]
        assert len(dead_letters(driver)) == 1


@pytest.mark.parametrize("windows", [Tumbling(seconds=10), KafkaSliding(seconds=10), None])
@pytest.mark.parametrize("emit", ["update", "commit", "close"])
def test_a_total_of_a_mean_that_no_float_holds(windows: Any, emit: str) -> None:
    if windows is None and emit == "close":
        pytest.skip("only windows close")
    readings = [Reading(1, 4), Reading(2, 0), Reading(3, 8), Reading(30_000, 1)]
    values, out = left_out(
        windows, lambda group: group.mean(lambda one: one.n or 10**400, name="m", emit=emit), readings, float
    )
    assert out == [1]
    assert 6.0 in values or windows is None


KINDS = [Tumbling(seconds=10), Session(seconds=5), Sliding(seconds=10), KafkaSliding(seconds=10), Counting(3), None]


@pytest.mark.parametrize("windows", KINDS, ids=str)
@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("bad", [Decimal("NaN"), float("nan"), None, Decimal("sNaN")], ids=repr)
def test_a_value_that_cannot_be_compared_is_refused_when_it_comes(windows: Any, which: str, bad: Any) -> None:
    given = [bad, Decimal(3), Decimal(5), Decimal(4), Decimal(4)]
    readings = [Reading(at) for at in range(1, 6)] + [Reading(20_000)]

    def value(reading: Reading) -> Any:
        return given[reading.at - 1] if reading.at < 9 else Decimal(9)

    more = {"emit": "close"} if isinstance(windows, Tumbling | Session | KafkaSliding) else {}
    values, out = left_out(
        windows, lambda group: getattr(group, which)(value, name="m", value=Decimal, **more), readings, Decimal
    )
    assert out == [0]
    best = Decimal(3) if which == "min" else Decimal(5)
    assert best in values


@pytest.mark.parametrize("least", [True, False])
@pytest.mark.parametrize("bad", [None, float("nan"), (None, 1), (float("nan"), 1), Decimal("NaN")], ids=repr)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_rank_that_cannot_be_compared_is_refused_when_it_comes(least: bool, bad: Any, place: int) -> None:
    ranks: list[Any] = [1, 2, 3]
    if isinstance(bad, tuple):
        ranks = [(rank, 0) for rank in ranks]
    ranks.insert(place, bad)
    readings = [Reading(at) for at in range(1, 5)] + [Reading(20_000)]

    def rank(reading: Reading) -> Any:
        return ranks[reading.at - 1] if reading.at < 9 else ranks[1]

    (told, *_), out = left_out(
        Tumbling(seconds=10),
        lambda group: group.top_n(2, by=rank, least=least, name="m", emit="close"), readings, list[Reading],
    )  # fmt: skip
    assert out == [place]
    good = [at for at in range(1, 5) if at != place + 1]
    assert [one.at for one in told] == (good[:2] if least else good[:0:-1])
