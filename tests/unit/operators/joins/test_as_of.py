"""Joins with a table as it was: DuckDB's ASOF JOIN over any rows, the rule of what is late, and what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.codecs.buffered import PLACE, before_key
from kstream.codecs.versioned import HEAD
from kstream.errors import StateError, TopologyError
from kstream.state import versions
from kstream.state.memory import MemoryBackend
from kstream.state.versions import VersionStore
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import cut
from support.sql import database, fill

How = Literal["inner", "left"]
LEFT, RIGHT = "orders", "rates"
ERA = 10_000  # times are so much later than those of the cases


class Joined:
    def __init__(self, how: How, history: int, *, view: bool = False, **more: Any) -> None:
        self.app = kstream.App("as-of", **more)
        self.left = self.app.topic(LEFT, key=str, value=str | None, partitions=1)
        self.right = self.app.topic(RIGHT, key=str, value=str | None, partitions=1)
        self.out = self.app.topic("out", key=str, value=str, partitions=1)
        self.table = self.app.stream(self.right).to_table("table", history=timedelta(milliseconds=history))
        table: Any = self.table.filter(lambda rate: rate != "b") if view else self.table
        joined: Any = self.app.stream(self.left).join(table, pair, how=how)
        joined.to(self.out)

    def found(self, driver: TestDriver) -> list[tuple[int, str | None, str]]:
        return [(one.timestamp - ERA, one.key, one.value) for one in driver.records(self.out)]


def pair(left: str, right: str | None) -> str:
    return f"{left}-{right or 'null'}"


def store_of(driver: TestDriver) -> VersionStore:
    (store,) = (
        one for one in driver.worker.tasks.values() for one in one.plan.stores.values() if one.spec.holds == "versions"
    )
    assert isinstance(store, VersionStore)
    return store


def dropped(driver: TestDriver) -> dict[str, int]:
    tasks = driver.worker.tasks.values()
    return dict(sum((one.dropped for task in tasks for one in task.plan.operators), Counter[str]()))


def append(driver: TestDriver, side: str, key: str | None, value: str | None, at: int) -> None:
    raw = None if value is None else value.encode()
    driver.cluster.append(side, None if key is None else key.encode(), raw, timestamp=ERA + at)


ONE = st.tuples(
    st.sampled_from([LEFT, RIGHT, RIGHT]),
    st.sampled_from("kl"),
    st.one_of(st.none(), st.sampled_from("abc"), st.just("long" * 20)),
    st.integers(0, 40),
)
CUTS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["process", "crash", "abort", "commit"])), max_size=6)


@pytest.mark.parametrize("how", ["inner", "left"])
@cases
@given(rows=st.lists(ONE, max_size=60), cuts=CUTS, view=st.booleans())
def test_what_sql_says_whatever_the_order(
    how: How, rows: list[tuple[str, str, str | None, int]], cuts: list[tuple[int, str]], view: bool
) -> None:
    """The rates come in any order, before the orders: only times count. Parts are of three versions, or 100 bytes."""
    joined = Joined(how, 1000, view=view)
    with database() as sql:
        sql.execute("CREATE TABLE rows (place INTEGER, side TEXT, key TEXT, value TEXT, ms INTEGER)")
        fill(sql, "rows", [(place, *row) for place, row in enumerate(rows)])
        rates = f"(SELECT key, ms, arg_max([value], place) AS newest FROM rows WHERE side = '{RIGHT}' GROUP BY key, ms)"
        wanted = sql.execute(
            f"""SELECT l.ms, l.key, l.value || '-' || coalesce(nullif(r.value, '{"b" if view else ""}'), 'null') AS said
            FROM (SELECT * FROM rows WHERE side = '{LEFT}' AND value IS NOT NULL) l
            ASOF LEFT JOIN (SELECT key, ms, newest[1] AS value FROM {rates}) r ON l.key = r.key AND l.ms >= r.ms
            {"WHERE said NOT LIKE '%null'" if how == "inner" else ""} ORDER BY l.place"""
        ).fetchall()
    rates_first = sorted(rows, key=lambda row: row[0], reverse=True)
    with mock.patch.multiple(versions, ROWS=3, BYTES=100), TestDriver(joined.app) as driver:
        for place, (side, key, value, at) in enumerate(rates_first):
            if side == LEFT and (place == 0 or rates_first[place - 1][0] == RIGHT):
                driver.commit()
            append(driver, side, key, value, at)
            if what := dict(cuts).get(place):  # one at most, so that an abort has something to take back
                cut(driver, what)
        assert joined.found(driver) == wanted


@cases
@given(rows=st.lists(ONE, max_size=60), cuts=CUTS, history=st.sampled_from([1, 5, 20]))
def test_what_is_late_changes_and_finds_nothing(
    rows: list[tuple[str, str, str | None, int]], cuts: list[tuple[int, str]], history: int
) -> None:
    """The time of the task is the least of both sides: a version, or a record, of more than `history` before it is
    late. However batches are cut, and whatever was removed meanwhile."""
    joined = Joined("left", history)
    kept: dict[str, dict[int, str | None]] = {"k": {}, "l": {}}
    seen: dict[str, int] = {}
    wanted, late = [], 0
    with mock.patch.multiple(versions, ROWS=2, BYTES=100), TestDriver(joined.app) as driver:
        for place, (side, key, value, at) in enumerate(rows):
            if place and rows[place - 1][0] != side:
                driver.commit()
            append(driver, side, key, value, at)
            seen[side] = max(at, seen.get(side, at))
            is_late = len(seen) == 2 and at < min(seen.values()) - history
            if side == RIGHT and not is_late:
                kept[key][at] = value
            elif side == RIGHT:
                late += 1
            elif value is not None:
                before = [] if is_late else [time for time in kept[key] if time <= at]
                wanted.append((at, key, pair(value, kept[key][max(before)] if before else None)))
            if what := dict(cuts).get(place):  # one at most, so that an abort has something to take back
                cut(driver, what)
        assert joined.found(driver) == wanted
        latest = {key: of_key[max(of_key)] for key, of_key in kept.items() if of_key}
        assert dict(driver.table(joined.table)) == {key: row for key, row in latest.items() if row is not None}
        driver.commit()
        parts = [key for key, _ in store_of(driver).backend.scan("table-versions")]
        if len(seen) == 2:
            assert all(key.startswith(HEAD) or key > before_key(ERA + min(seen.values()) - history) for key in parts)


def test_the_rows_of_kafka_streams() -> None:
    """StreamTableJoinIntegrationTest, testInnerWithVersionedStore and testLeftWithVersionedStore (KIP-914)."""
    from tests.unit.operators.joins.test_stream_table import INPUT

    expected: dict[str, list[tuple[str, int]]] = {
        "inner": [("B-a", 5), ("D-b", 6), ("E-e", 15), ("F-a", 4)],
        "left": [("A-null", 3), ("B-a", 5), ("C-null", 9), ("D-b", 6), ("E-e", 15), ("F-a", 4)],
    }
    for how, wanted in expected.items():
        joined: Any = Joined(how, 60_000)  # type: ignore[arg-type]
        with TestDriver(joined.app) as driver:
            for side, value, at in INPUT:
                append(driver, LEFT if side == "left" else RIGHT, "k", value, at)
                driver.process()
            assert [(value, at) for at, _, value in joined.found(driver)] == wanted
            assert dict(driver.table(joined.table)) == {"k": "e"}


@pytest.mark.parametrize(("how", "values"), [("inner", ["a-b"]), ("left", ["x-null", "a-b", "y-null"])])
def test_nulls_and_late_records(how: How, values: list[str]) -> None:
    joined = Joined(how, 100)
    with TestDriver(joined.app) as driver:
        for side, key, value, at in (
            (RIGHT, None, "none's", 0), (RIGHT, "k", "b", 0), (LEFT, None, "x", 1), (LEFT, "k", None, 1),
            (LEFT, "k", "a", 1), (RIGHT, "l", "b", 500), (LEFT, "k", None, 500), (LEFT, "k", "y", 300),
            (RIGHT, "k", "c", 300),
        ):  # fmt: skip
            append(driver, side, key, value, at)
            driver.process()
        driver.commit()
        assert [value for _, _, value in joined.found(driver)] == values
        inner = how == "inner"
        assert dropped(driver) == {"no key": 1 + inner, "no value": 2, "late": 1 + inner}


def test_what_was_valid_leaves_the_store_and_a_row_that_is_gone_does_too() -> None:
    joined = Joined("left", 100)
    with mock.patch.object(versions, "ROWS", 2), TestDriver(joined.app) as driver:
        for at in range(20):
            append(driver, RIGHT, "k", f"v{at}", at)
        append(driver, RIGHT, "gone", "v", 5)
        append(driver, RIGHT, "gone", None, 19)
        append(driver, LEFT, "k", "x", 19)
        driver.commit()
        keys = [key for key, _ in store_of(driver).backend.scan("table-versions")]
        assert [key[PLACE:] for key in keys] == [b"k"] * 6 + [b"gone", b"gone", b"k"]
        append(driver, RIGHT, "other", "o", 119)
        append(driver, LEFT, "k", "y", 119)
        driver.commit()
        assert [key for key, _ in store_of(driver).backend.scan("table-versions")] == [HEAD + b"k", HEAD + b"other"]
        assert dict(driver.table(joined.table)) == {"k": "v19", "other": "o"}
        driver.cluster.compact("as-of-table-versions-changelog")
        live = [one.key for one in driver.cluster.records("as-of-table-versions-changelog") if one.value]
        assert live == [HEAD + b"k", HEAD + b"other"]


def test_damaged_state_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counted as a version of another type, and the policies of the record decided."""
    joined = Joined("left", 1000, on_error=[kstream.DeadLetter("letters")])
    inner, fails = MemoryBackend.multi_get, list[int]()

    def failing(backend: MemoryBackend, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if fails and store == "table-versions" and any(not key.startswith(HEAD) for key in keys):
            fails.pop()
            raise StateError("a block is damaged")
        return inner(backend, store, keys)

    monkeypatch.setattr(MemoryBackend, "multi_get", failing)
    with mock.patch.multiple(versions, ROWS=2, BYTES=100), TestDriver(joined.app) as driver:
        for at in range(20):
            append(driver, RIGHT, "k", f"{at}", at)
        driver.commit()
        driver.crash()
        fails += [1] * 3
        append(driver, LEFT, "k", "a", 3)
        assert joined.found(driver) == [(3, "k", pair("a", "3"))]
        assert not fails and not ("letters" in driver.cluster.topics() and driver.cluster.records("letters"))


def test_a_history_can_be_refused() -> None:
    app = kstream.App("refused")
    rates = app.topic("rates", key=str, value=int)
    refused: list[tuple[Any, str]] = [(timedelta(0), "1 at least"), (5, "is not a timedelta")]
    for history, said in refused:
        with pytest.raises(TopologyError, match=said):
            app.stream(rates).to_table("table", history=history)
