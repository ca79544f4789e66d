"""Windows, sessions and suppress: the rows of Kafka Streams' own tests (4.x), of SuppressScenarioTest and
KStreamSessionWindowAggregateProcessorTest.

Times of results are not compared. There a result has the largest time of its records; here that of the record that
changed it, or of the window's end. The rows of sliding windows: test_kafka_sliding_aggregate.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import pytest

import kstream
from kstream import Session, Tumbling, Windowed, WindowedSpan
from kstream.testing import TestDriver

MS = timedelta(milliseconds=1)
ERA = 1_000_000
"""Times are so much later than those of the cases: here no record has the time 0."""
GAP = 300_000


class Case(NamedTuple):
    """Key and time of each record; key, start (of a session: the end, too) and count of each result."""

    windows: Any
    grace: int
    records: list[tuple[str, int]]
    updates: list[tuple[Any, ...]]
    closed: list[tuple[Any, ...]]


CASES = {
    "shouldSupportFinalResultsForTimeWindows": Case(
        Tumbling(2 * MS), 1,
        [("k1", at) for at in (0, 1, 2, 1, 0, 5, 0)],
        [("k1", 0, 1), ("k1", 0, 2), ("k1", 2, 1), ("k1", 0, 3), ("k1", 0, 4), ("k1", 4, 1)],
        [("k1", 0, 4), ("k1", 2, 1)],
    ),
    "shouldSupportFinalResultsForTimeWindowsWithLargeJump": Case(
        Tumbling(2 * MS), 2,
        [("k1", at) for at in (0, 1, 2, 0, 3, 0, 4, 0, 30)],
        [
            ("k1", 0, 1), ("k1", 0, 2), ("k1", 2, 1), ("k1", 0, 3), ("k1", 2, 2), ("k1", 0, 4), ("k1", 4, 1),
            ("k1", 30, 1),
        ],
        [("k1", 0, 4), ("k1", 2, 2), ("k1", 4, 1)],
    ),
    "shouldSupportFinalResultsForSessionWindows": Case(
        Session(5 * MS), 0,
        [("k1", 0), ("k1", 5), ("k1", 1), ("k2", 11), ("k1", 5), ("k1", 30)],
        [
            ("k1", 0, 0, 1), ("k1", 0, 0, None), ("k1", 0, 5, 2),
            ("k1", 0, 5, 3),  # there None under the same key comes before it
            ("k2", 11, 11, 1), ("k1", 30, 30, 1),
        ],
        [("k1", 0, 5, 3), ("k2", 11, 11, 1)],
    ),
    "shouldCreateSingleSessionWhenWithinGap": Case(
        Session(GAP * MS), GAP,
        [("john", 0), ("john", 500)],
        [("john", 0, 0, 1), ("john", 0, 0, None), ("john", 0, 500, 2)],
        [],
    ),
    "shouldMergeSessions": Case(
        Session(GAP * MS), GAP,
        [("mel", 0), ("mel", GAP + 1), ("mel", GAP // 2)],
        [
            ("mel", 0, 0, 1), ("mel", GAP + 1, GAP + 1, 1), ("mel", 0, 0, None), ("mel", GAP + 1, GAP + 1, None),
            ("mel", 0, GAP + 1, 3),
        ],
        [],
    ),
    "shouldUpdateSessionIfTheSameTime": Case(
        Session(GAP * MS), GAP, [("mel", 0), ("mel", 0)], [("mel", 0, 0, 1), ("mel", 0, 0, 2)], []
    ),
    "shouldHaveMultipleSessionsForSameIdWhenTimestampApartBySessionGap": Case(
        Session(GAP * MS), GAP,
        [("mel", 0), *[("mel", GAP + 1)] * 2, *[("mel", 2 * GAP + 2)] * 3],
        [
            ("mel", 0, 0, 1), *[("mel", GAP + 1, GAP + 1, n) for n in (1, 2)],
            *[("mel", 2 * GAP + 2, 2 * GAP + 2, n) for n in (1, 2, 3)],
        ],
        [("mel", 0, 0, 1)],
    ),
    "shouldHandleMultipleSessionsAndMerging": Case(
        Session(GAP * MS), GAP,
        [
            *[(key, 0) for key in "abcd"], ("d", GAP // 2), ("a", GAP + 1), ("b", GAP + 1),
            ("a", GAP + 1 + GAP // 2), ("c", GAP + 1 + GAP // 2),
        ],
        [
            *[(key, 0, 0, 1) for key in "abcd"], ("d", 0, 0, None), ("d", 0, GAP // 2, 2),
            ("a", GAP + 1, GAP + 1, 1), ("b", GAP + 1, GAP + 1, 1), ("a", GAP + 1, GAP + 1, None),
            ("a", GAP + 1, GAP + 1 + GAP // 2, 2), ("c", GAP + 1 + GAP // 2, GAP + 1 + GAP // 2, 1),
        ],
        [],
    ),
    "shouldLogAndMeterWhenSkippingLateRecordWithZeroGrace": Case(
        Session(10 * MS), 0,
        [("dummy", 0), ("OnTime1", 0), ("dummy", 11), ("Late1", 0)],
        [("dummy", 0, 0, 1), ("OnTime1", 0, 0, 1), ("dummy", 11, 11, 1)],
        [("OnTime1", 0, 0, 1), ("dummy", 0, 0, 1)],
    ),
    "shouldLogAndMeterWhenSkippingLateRecordWithNonzeroGrace": Case(
        Session(10 * MS), 1,
        [("dummy", 0), ("OnTime1", 0), ("dummy", 11), ("OnTime2", 0), ("dummy", 12), ("Late1", 0)],
        [
            ("dummy", 0, 0, 1), ("OnTime1", 0, 0, 1), ("dummy", 11, 11, 1), ("OnTime2", 0, 0, 1),
            ("dummy", 11, 11, None), ("dummy", 11, 12, 2),
        ],
        [("OnTime1", 0, 0, 1), ("OnTime2", 0, 0, 1), ("dummy", 0, 0, 1)],
    ),
}  # fmt: skip


def row(record: Any) -> tuple[Any, ...]:
    key = record.key
    ends = (key.end - ERA,) if isinstance(key, WindowedSpan) else ()
    return key.key, key.start - ERA, *ends, record.value


@pytest.mark.parametrize("emit", ["update", "close"])
@pytest.mark.parametrize("name", CASES)
def test_the_rows_of_windows_and_sessions(name: str, emit: str) -> None:
    """What is told on close is in the order of time, then of key; a late record changes nothing."""
    case = CASES[name]
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=str)
    kind: Any = WindowedSpan[str] if isinstance(case.windows, Session) else Windowed[str]
    out: Any = app.topic("out", key=kind, value=int | None)
    step: Any = app.stream(source).group_by_key().window(case.windows, grace=case.grace * MS)
    step.count(name="counts", emit=emit).to(out)
    with TestDriver(app, partitions=1) as driver:
        for key, at in case.records:
            driver.send(source, "v1", key=key, timestamp=ERA + at)
        assert [row(one) for one in driver.records(out)] == (case.updates if emit == "update" else case.closed)


def test_the_rows_of_suppress() -> None:
    """SuppressScenarioTest.shouldSuppressIntermediateEventsWithTimeLimit. There a change is told when time has come to
    its limit, here when it has passed it: one record later, and the same rows."""
    app = kstream.App("suppress")
    source = app.topic("input", key=str, value=str | None, partitions=1)
    raw, suppressed = (app.topic(name, key=str, value=int | None, partitions=1) for name in ("raw", "suppressed"))
    counts = app.stream(source).to_table("rows").group_by(lambda value: value, name="by-value", key=str)
    table = counts.count(name="counts")
    table.to(raw)
    table.suppress(2 * MS, name="told").to(suppressed)
    with TestDriver(app) as driver:
        for key, value, at in (
            ("k1", "v1", 0), ("k1", "v2", 1), ("k2", "v1", 2), ("tick", "tick", 3), ("tick", "tock", 4),
            ("", "end", 20), ("", "end", 40),
        ):  # fmt: skip
            driver.send(source, value, key=key, timestamp=ERA + at)
            driver.commit()
        rows = [(one.key, one.value, one.timestamp - ERA) for one in driver.records(raw)]
        assert rows[:7] == [
            ("v1", 1, 0), ("v1", 0, 1), ("v2", 1, 1), ("v1", 1, 2), ("tick", 1, 3), ("tick", 0, 4), ("tock", 1, 4),
        ]  # fmt: skip
        told = [(one.key, one.value, one.timestamp - ERA) for one in driver.records(suppressed)]
        assert told[:4] == [("v1", 1, 2), ("v2", 1, 3), ("tick", 0, 5), ("tock", 1, 6)]
