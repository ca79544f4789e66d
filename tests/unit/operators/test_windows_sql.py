"""Every aggregation over windows and sessions, against DuckDB over the same rows: out of order, late, at equal times,
cut at random, with crashes in between.

What is late is SQL's too: the time at a row is the largest up to it, in the order in which rows lie in their partition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Cumulating, Hopping, Session, Tumbling, Windowed, WindowedSpan
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut
from support.sql import database

MS = timedelta(milliseconds=1)
Row = tuple[str, int, int]
"""Key, value, timestamp."""


def same(value: int) -> int:
    return value


@dataclass(frozen=True)
class Aggregation:
    """`sql` of the rows of a window, which have `place`, `value` and `at`."""

    kind: Any
    declare: Callable[..., Any]
    sql: str


AGGREGATIONS: Final = {
    "count": Aggregation(int, lambda group, **how: group.count(**how), "count(*)"),
    "sum": Aggregation(int, lambda group, **how: group.sum(same, **how), "sum(value)::BIGINT"),
    "min": Aggregation(int, lambda group, **how: group.min(same, **how), "min(value)"),
    "max": Aggregation(int, lambda group, **how: group.max(same, **how), "max(value)"),
    "mean": Aggregation(float, lambda group, **how: group.mean(same, **how), "avg(value)"),
    "count_distinct": Aggregation(int, lambda group, **how: group.count_distinct(same, **how), "count(DISTINCT value)"),
    "quantiles": Aggregation(
        list[float],
        lambda group, **how: group.quantiles(same, [0, 0.3, 0.5, 1], error=0.001, **how),
        "quantile_disc(value, [0, 0.3, 0.5, 1])::DOUBLE[]",
    ),
    "reduce": Aggregation(int, lambda group, **how: group.reduce(lambda a, b: a + b, **how), "sum(value)::BIGINT"),
    "collect": Aggregation(list[int], lambda group, **how: group.collect(**how), "list(value ORDER BY place)"),
}
if find_spec("datasketches"):
    AGGREGATIONS["count_distinct about"] = Aggregation(
        int, lambda group, **how: group.count_distinct(same, error=0.02, **how), "count(DISTINCT value)"
    )
OF_WINDOWS: Final = {
    **AGGREGATIONS,
    "first": Aggregation(int, lambda group, **how: group.first(**how), "first(value ORDER BY place)"),
    "last": Aggregation(int, lambda group, **how: group.last(**how), "last(value ORDER BY place)"),
    "top_n": Aggregation(
        list[int],
        lambda group, **how: group.top_n(2, by=same, **how),
        "list(value ORDER BY value DESC, place)[1:2]",
    ),
    "aggregate": Aggregation(
        list[int],
        lambda group, **how: group.aggregate(list[int], lambda kept, n: [*kept, n], value=list[int], **how),
        "list(value ORDER BY place)",
    ),
}

OF_SESSIONS: Final = {
    **AGGREGATIONS,
    "aggregate": Aggregation(
        list[int],
        lambda group, **how: group.aggregate(
            list[int], lambda kept, n: [*kept, n], list.__add__, value=list[int], **how
        ),
        "list(value ORDER BY place)",
    ),
}

ROWS: Final = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-3, 9), st.integers(0, 60)), min_size=1, max_size=40
)  # fmt: skip
HOW: Final = {
    "rows": ROWS,
    "out_of_order": st.integers(0, 8),
    "cuts": st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
    "emit": st.sampled_from(["close", "update", "commit"]),
}
ERA: Final = 1000  # of the times of rows, in ms

WINDOWS: Final = [
    Tumbling(10 * MS),
    Tumbling(7 * MS, offset=3 * MS),
    Hopping(12 * MS, every=5 * MS),
    Cumulating(12 * MS, step=4 * MS),
]


def sql_of(windows: Any) -> str:
    """Start and end (which is not in it) of each window there can be."""
    if isinstance(windows, Cumulating):
        step, longest = windows.size, windows.longest
        ends = f"range(s + {step}, s + {longest} + 1, {step}) b(e)"
        return f"SELECT s AS start, e AS stop FROM range(0, 2000, {longest}) a(s), {ends}"
    return f"SELECT s AS start, s + {windows.size} AS stop FROM range({windows.offset}, 2000, {windows.advance}) a(s)"


def asked(rows: list[Row], aggregations: dict[str, Aggregation], query: str) -> dict[str, dict[Any, Any]]:
    """The results of each aggregation, by key, start and end. `query` selects key, start, stop, value and place."""
    given_ = ", ".join(f"({place}, '{key}', {value}, {ERA + at})" for place, (key, value, at) in enumerate(rows))
    columns = ", ".join(one.sql for one in aggregations.values())
    with database() as sql:
        sql.execute(f"CREATE TABLE given AS SELECT * FROM (VALUES {given_}) t(place, key, value, ms)")
        sql.execute("CREATE TABLE timed AS SELECT *, max(ms) OVER (ORDER BY place) AS latest FROM given")
        found = sql.execute(f"SELECT key, start, stop, {columns} FROM ({query}) GROUP BY key, start, stop").fetchall()
    return {
        name: {(key, start, stop): results[number] for key, start, stop, *results in found}
        for number, name in enumerate(aggregations)
    }


def told(
    windows: Any, grace: int, aggregations: dict[str, Aggregation], rows: list[Row], out_of_order: int, cuts: list[str],
    emit: str,
) -> dict[str, dict[Any, Any]]:  # fmt: skip
    """What each aggregation has told last of each window, when all are closed, by key, start and end."""
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    spans, taken_back = isinstance(windows, Session | Cumulating), isinstance(windows, Session) and emit != "close"
    group, outs = app.stream(source).group_by_key().window(windows, grace=grace * MS), {}
    for number, (name, one) in enumerate(aggregations.items()):
        key: Any = WindowedSpan[str] if spans else Windowed[str]
        outs[name] = app.topic(f"out-{number}", key=key, value=one.kind | None if taken_back else one.kind)
        one.declare(group, name=f"t-{number}", emit=emit).to(outs[name])
    with TestDriver(app, partitions=1, backend="memory") as driver:
        for number, (key, value, at) in enumerate(rows):
            driver.cluster.append("in", key.encode(), str(value).encode(), ERA + at, None, 0)
            cut(driver, cuts[number % len(cuts)])
        driver.send(source, 0, key="end", timestamp=100_000)
        driver.commit()
        found: dict[str, dict[Any, Any]] = {}
        for name, out in outs.items():
            last = {
                (record.key.key, record.key.start, record.key.end + 1 if spans else record.key.start + windows.size): (
                    record.value
                )
                for record in driver.records(out)
                if record.key.key != "end"
            }
            found[name] = {window: value for window, value in last.items() if value is not None}
    return found


def compare(found: dict[str, dict[Any, Any]], wanted: dict[str, dict[Any, Any]]) -> None:
    assert found.keys() == wanted.keys()
    for name, results in wanted.items():
        near = {window: pytest.approx(value, rel=0.0011) for window, value in results.items()}
        assert found[name] == (near if name in ("quantiles", "mean") else results), name


@cases
@given(windows=st.sampled_from(WINDOWS), grace=st.integers(0, 12), **HOW)
def test_of_each_window(windows: Any, grace: int, rows: list[Row], out_of_order: int, **how: Any) -> None:
    """A record is too late for a window that has closed by the largest time before it, or its own."""
    wanted = asked(
        rows,
        OF_WINDOWS,
        f"""SELECT key, start, stop, value, place FROM timed JOIN ({sql_of(windows)}) ON ms >= start AND ms < stop
        WHERE stop + {grace} > latest - {out_of_order}""",
    )
    compare(told(windows, grace, OF_WINDOWS, rows, out_of_order, **how), wanted)


@cases
@given(gap=st.integers(1, 12), **HOW)
def test_of_each_session(gap: int, rows: list[Row], out_of_order: int, **how: Any) -> None:
    """Nothing is late here (test_session_aggregate.py has what is), but what comes late makes one of several sessions.
    Of these `collect` and `aggregate` have the values in another order."""
    wanted = asked(
        rows,
        OF_SESSIONS,
        f"""
        SELECT key, min(ms) OVER session AS start, max(ms) OVER session + 1 AS stop, value, place FROM (
            SELECT *, sum(begins) OVER (PARTITION BY key ORDER BY ms, place) AS number FROM (
                SELECT *, (ms - lag(ms, 1, -1000) OVER (PARTITION BY key ORDER BY ms, place) > {gap})::INTEGER AS begins
                FROM given))
        WINDOW session AS (PARTITION BY key, number)""",
    )
    found = told(Session(gap * MS), 1000, OF_SESSIONS, rows, out_of_order, **how)
    for name in ("collect", "aggregate"):
        for results in (found, wanted):
            results[name] = {window: sorted(values) for window, values in results[name].items()}
    compare(found, wanted)
