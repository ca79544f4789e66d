"""Windows behind a repartition topic, against DuckDB over the same rows: partitions that are far apart in time, some
quiet all the while, read in batches of any size, with crashes and aborts in between. Nothing is too late, so the query
knows nothing of time: it is GROUP BY.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Cumulating, Session, Windowed, WindowedSpan
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, cut

from .test_windows_sql import AGGREGATIONS, ERA, MS, WINDOWS, asked, compare, sql_of

PARTITIONS = 3
SOME = {name: AGGREGATIONS[name] for name in ("count", "sum", "max", "count_distinct")}
"""Which of the records came first does not matter to them."""
Part = list[tuple[int, int]]
"""The records of a partition: value, and how much later than the one before."""

SESSIONS = """
SELECT key, min(ms) OVER session AS start, max(ms) OVER session + 1 AS stop, value, place FROM (
    SELECT *, sum(begins) OVER (PARTITION BY key ORDER BY ms, place) AS number FROM (
        SELECT *, (ms - lag(ms, 1, -1000) OVER (PARTITION BY key ORDER BY ms, place) > {gap})::INTEGER AS begins
        FROM given))
WINDOW session AS (PARTITION BY key, number)"""


def query_of(windows: Any) -> str:
    if isinstance(windows, Session):
        return SESSIONS.format(gap=windows.gap)
    return f"SELECT key, start, stop, value, place FROM given JOIN ({sql_of(windows)}) ON ms >= start AND ms < stop"


def app_of(windows: Any, emit: str, out_of_order: int) -> tuple[kstream.App, Any, dict[str, Any]]:
    app, outs = kstream.App("skewed"), {}
    source = app.topic("in", key=str, value=int, partitions=PARTITIONS, out_of_order=out_of_order * MS)
    group = app.stream(source).group_by(lambda n: "ab"[n % 2], name="by", key=str, parallelism=2)
    windowed = group.window(windows, grace=timedelta(0))
    key: Any = WindowedSpan[str] if isinstance(windows, Session | Cumulating) else Windowed[str]
    for number, (name, one) in enumerate(SOME.items()):
        taken_back = isinstance(windows, Session) and emit != "close"
        outs[name] = app.topic(f"out-{number}", key=key, value=one.kind | None if taken_back else one.kind)
        one.declare(windowed, name=f"t-{number}", emit=emit).to(outs[name])
    return app, source, outs


@cases
@given(
    windows=st.sampled_from([*WINDOWS, Session(4 * MS), Session(9 * MS)]),
    parts=st.lists(
        st.lists(st.tuples(st.integers(-3, 9), st.sampled_from([0, 1, 2, 5, 30])), max_size=12),
        min_size=PARTITIONS, max_size=PARTITIONS,
    ),
    turns=st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 12)), max_size=8),
    out_of_order=st.sampled_from([0, 0, 4]),
    cuts=st.lists(st.sampled_from(["", "", *CUTS]), min_size=1, max_size=6),
    poll=st.sampled_from([1, 3, 500]), emit=st.sampled_from(["close", "update", "commit"]),
)  # fmt: skip
def test_it_is_as_if_all_had_come_in_the_order_of_their_times(
    windows: Any, parts: list[Part], turns: list[tuple[int, int]], out_of_order: int, cuts: list[str], poll: int,
    emit: str,
) -> None:  # fmt: skip
    """`turns`: of which partition the next so many records come; what is left comes at the end."""
    queues: list[list[tuple[int, int]]] = []  # value, timestamp less ERA
    for part in parts:
        at, queue = 0, []
        for value, later in part:
            at += later
            queue.append((value, max(at - value % (out_of_order + 1), 0)))
        queues.append(queue)
    rows = [("ab"[value % 2], value, at) for queue in queues for value, at in queue]
    wanted = asked(rows or [("none", 0, 0)], SOME, query_of(windows))
    app, source, outs = app_of(windows, emit, out_of_order)
    with TestDriver(app, poll_batch=poll) as driver:
        for number, (partition, count) in enumerate([*turns, *((number, 99) for number in range(PARTITIONS))]):
            for value, at in queues[partition][:count]:
                driver.cluster.append("in", b"k", str(value).encode(), ERA + at, None, partition)
            del queues[partition][:count]
            cut(driver, cuts[number % len(cuts)])
        for partition in range(PARTITIONS):
            for value in (0, 1):  # to the ends of both partitions behind
                driver.send(source, value, key="k", timestamp=100_000, partition=partition)
        driver.commit()
        spans = isinstance(windows, Session | Cumulating)
        found: dict[str, dict[Any, Any]] = {}
        for name, out in outs.items():
            records = [record for record in driver.records(out) if record.key.start < 90_000]
            ends = [one.key.end + 1 if spans else one.key.start + windows.size for one in records]
            told = [((one.key.key, one.key.start, end), one.value) for one, end in zip(records, ends, strict=True)]
            found[name] = {window: value for window, value in dict(told).items() if value is not None}
            assert emit != "close" or len(told) == len(found[name])  # each once
    compare(found, wanted if rows else {name: {} for name in wanted})
