"""Joins of streams by time, against DuckDB over the same rows: out of order, late, at equal times, without key or
value, cut at random, with crashes and aborts in between.

What is late is SQL's too: the time at a row is the largest up to it, in the order in which rows lie in their partition.
So both sides come from one topic here; of two test_stream_stream.py has an oracle that knows in which order they are
read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut
from support.sql import database, fill

MS = timedelta(milliseconds=1)
ERA = 1000  # of the times of rows, in ms
Row = tuple[str, str | None, str | None, int]
"""Side, key, value, timestamp."""

SQL = """
WITH timed AS (SELECT *, max(ms) OVER (ORDER BY place) - {behind} AS latest FROM given),
sides AS (SELECT * FROM timed WHERE value IS NOT NULL),
l AS (SELECT *, {left_until} + {grace} AS until FROM sides WHERE side = 'left'),
r AS (SELECT *, {right_until} + {grace} AS until FROM sides WHERE side = 'right')
SELECT coalesce(l.key, r.key), coalesce(l.value, 'null') || '-' || coalesce(r.value, 'null'),
    greatest(coalesce(l.ms, r.ms), coalesce(r.ms, l.ms))
FROM l {how} JOIN r ON l.key = r.key AND {near}
    AND CASE WHEN l.place < r.place THEN l.until >= r.latest ELSE r.until >= l.latest END
"""
"""The one of two rows that came first is met for as long as it is kept: `until`."""


def of_bounds(before: int, after: int) -> dict[str, Any]:
    return {
        "left_until": f"ms + {max(after, 0)}",
        "right_until": f"ms + {max(before, 0)}",
        "near": f"r.ms BETWEEN l.ms - {before} AND l.ms + {after}",
    }


def of_window(size: int, offset: int) -> dict[str, Any]:
    start = f"(ms - ((ms - {offset}) % {size}))"
    near = f"(l.ms - {offset}) // {size} = (r.ms - {offset}) // {size}"
    return {"left_until": f"{start} + {size - 1}", "right_until": f"{start} + {size - 1}", "near": near}


rows = st.lists(
    st.tuples(
        st.sampled_from(["left", "right"]),
        st.sampled_from(["k", "k", "k", "l", "l", None]),
        st.sampled_from(["a", "b", "c", "d", "e", None]),
        st.integers(0, 60),
    ),
    min_size=10,  # of fewer hardly any comes too late to be joined
    max_size=40,
)
near = st.one_of(
    st.tuples(st.integers(0, 12), st.integers(0, 12)),
    st.integers(0, 12).flatmap(lambda n: st.tuples(st.just(-n), st.integers(n, 24))),
    st.integers(0, 12).flatmap(lambda n: st.tuples(st.integers(n, 24), st.just(-n))),
    st.builds(lambda size, offset: Tumbling(size * MS, offset=offset * MS), st.integers(1, 30), st.integers(-9, 9)),
)


def app_of(how: str, within: Any, grace: int, behind: int) -> tuple[kstream.App, Any]:
    app = kstream.App("by-time")
    both = app.topic("both", key=str, value=list[str | None], out_of_order=behind * MS)
    out = app.topic("out", key=str, value=str)
    ways = app.stream(both).branch(left=lambda value: value[0] == "left")
    left, right = (ways[way].map(lambda value: value[1], value=str | None) for way in ("left", "rest"))

    def pair(one: str | None, other: str | None) -> str:
        return f"{one or 'null'}-{other or 'null'}"

    within = within if isinstance(within, Tumbling) else tuple(bound * MS for bound in within)
    joined: Any = left.join(right, pair, within=within, grace=grace * MS, how=how, name="j")  # type: ignore
    joined.to(out)
    return app, out


@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.more) for how in ("inner", "left")] + ["outer"])
@cases
@given(
    rows=rows, within=near, grace=st.integers(0, 8), behind=st.sampled_from([0, 0, 5]),
    cuts=st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=8),
    backend=st.sampled_from(["memory", "memory", "rocksdb"]),
)  # fmt: skip
def test_results_are_those_of_sql(
    how: str, rows: list[Row], within: Any, grace: int, behind: int, cuts: list[str], backend: Any
) -> None:
    """Once all is over, so what found nothing is told of too."""
    clauses = of_window(within.size, within.offset) if isinstance(within, Tumbling) else of_bounds(*within)
    with database() as sql:
        sql.execute("CREATE TABLE given (place INTEGER, side TEXT, key TEXT, value TEXT, ms INTEGER)")
        fill(sql, "given", [(at, side, key, value, ERA + ms) for at, (side, key, value, ms) in enumerate(rows)])
        joined = "FULL OUTER" if how == "outer" else how
        wanted = sql.execute(SQL.format(how=joined, grace=grace, behind=behind, **clauses)).fetchall()
    app, out = app_of(how, within, grace, behind)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for number, (side, key, value, ms) in enumerate(rows):
            record = msgspec.json.encode([side, value])
            driver.cluster.append("both", key.encode() if key else None, record, ERA + ms, None, 0)
            cut(driver, cuts[number % len(cuts)])
        driver.cluster.append("both", b"end", msgspec.json.encode(["left", None]), 100_000, None, 0)
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
