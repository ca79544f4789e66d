"""Joins of tables, with and without a history, and one behind the other: the rows of Kafka Streams'
TableTableJoinIntegrationTest (4.x). Its rows of two tables without a history are in test_table_table.py, those of a
stream and a table in test_stream_table.py and test_as_of.py.

Times are not compared: there a change has the larger of both sides', here that of the record that caused it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver
from tests.unit.operators.joins.test_table_table import INPUT, LEFT, RIGHT, pair

Rows = dict[int, list[str | None]]
"""What comes out at which record of the input."""

HISTORY = timedelta(minutes=5)

HEAD: dict[str, dict[int, str | None]] = {
    "inner": {3: "A-a", 4: "B-a", 5: "B-b", 6: None, 9: "C-c", 10: None},
    "left": {
        2: "A-null", 3: "A-a", 4: "B-a", 5: "B-b", 6: None, 8: "C-null", 9: "C-c", 10: "C-null", 11: None,
    },
    "outer": {
        2: "A-null", 3: "A-a", 4: "B-a", 5: "B-b", 6: "null-b", 7: None, 8: "C-null", 9: "C-c", 10: "C-null", 11: None,
    },
}  # fmt: skip
"""As long as the input is in the order of its times, a history changes nothing."""

VERSIONED: dict[tuple[str, str], dict[int, str | None]] = {
    ("both", "inner"): {18: "E-e"},
    ("both", "left"): {18: "E-e"},
    ("both", "outer"): {17: "null-e", 18: "E-e"},
    ("left", "inner"): {18: "E-e", 20: None, 22: "E-f"},
    ("left", "left"): {18: "E-e", 20: "E-null", 22: "E-f"},
    ("left", "outer"): {13: "null-d", 16: None, 17: "null-e", 18: "E-e", 20: "E-null", 22: "E-f"},
    ("right", "inner"): {18: "E-e", 19: None, 21: "F-e"},
    ("right", "left"): {14: "D-null", 15: None, 18: "E-e", 19: None, 21: "F-e"},
    ("right", "outer"): {14: "D-null", 15: None, 17: "null-e", 18: "E-e", 19: "null-e", 21: "F-e"},
}
"""Which tables have a history, and what comes out behind HEAD (testInnerWithVersionedStores ...
testOuterWithRightVersionedOnly): a row of an earlier time is no change of such a table."""


def run(input_: list[tuple[str, str | None, int]], how: tuple[str, ...], history: tuple[str, ...] = ()) -> Rows:
    """What comes out of left `how[0]` right, joined by `how[1]` with right again where there is one."""
    app = kstream.App("tables")
    topics = {side: app.topic(side, key=str, value=str | None, partitions=1) for side in (LEFT, RIGHT)}
    out = app.topic("out", key=str, value=str | None, partitions=1)
    tables: dict[str, Any] = {
        side: app.stream(topic).to_table(side, history=HISTORY if side in history else None)
        for side, topic in topics.items()
    }
    joined = tables[LEFT]
    for number, one in enumerate(how):
        joined = joined.join(tables[RIGHT], pair, how=one, name=f"joined-{number}")
    joined.to(out)
    found: Rows = {}
    with TestDriver(app) as driver:
        for index, (side, value, at) in enumerate(input_):
            seen = len(driver.records(out))
            driver.send(topics[side], value, key="k", timestamp=1000 + at)
            if values := [record.value for record in driver.records(out)[seen:]]:
                found[index] = values
    return found


@pytest.mark.parametrize(("history", "how"), VERSIONED)
def test_the_rows_of_tables_with_a_history(history: str, how: str) -> None:
    expected = HEAD[how] | VERSIONED[history, how]
    sides = (LEFT, RIGHT) if history == "both" else (history,)
    assert run(INPUT, (how,), sides) == {index: [value] for index, value in expected.items()}


# ---- one behind the other: left, with right, with right again

IN_ORDER = [*INPUT[:13], (RIGHT, "d", 14), (LEFT, "D", 15)]
PAIRS: Rows = {
    3: ["A-a-a"] * 2, 4: ["B-a-a"], 5: ["B-b-b"] * 2, 6: [None], 9: ["C-c-c"] * 2, 10: [None], 14: ["D-d-d"],
}  # fmt: skip
ALONE: Rows = PAIRS | {2: ["A-null-null"], 8: ["C-null-null"], 10: ["C-null-null"] * 2, 11: [None]}
TWICE: dict[tuple[str, str], Rows] = {
    ("inner", "inner"): {index: values for index, values in PAIRS.items() if index != 10},
    ("inner", "left"): PAIRS,
    ("inner", "outer"): PAIRS | {6: ["null-b"], 7: [None], 10: [None, None], 13: ["null-d"]},
    ("left", "inner"): PAIRS,
    ("left", "left"): ALONE,
    ("left", "outer"): ALONE | {6: ["null-b"], 7: [None], 13: ["null-d"]},
    ("outer", "inner"): PAIRS | {6: ["null-b-b"], 13: ["null-d-d"] * 2},
    ("outer", "left"): ALONE | {6: ["null-b-b"], 7: [None], 13: ["null-d-d"] * 2},
    ("outer", "outer"): ALONE | {6: ["null-b-b"], 7: [None, None], 13: ["null-d-d"] * 2},
}
"""testInnerInner ... testOuterOuter. A record of the right comes by two ways, hence the doubles (KAFKA-6443)."""

HERE: dict[tuple[str, str], Rows] = {
    ("inner", "inner"): {10: [None]},  # there the row stays, which its own tests call wrong
    ("outer", "inner"): {7: [None]},  # there it stays, too
    ("inner", "outer"): {10: [None]},  # there a second None, of what is not there any more
    ("outer", "outer"): {7: [None]},
}
"""Where kstream differs: a row that is not there any more is deleted, once."""


@pytest.mark.parametrize("how", TWICE, ids="-".join)
def test_the_rows_of_two_joins_one_behind_the_other(how: tuple[str, str]) -> None:
    assert run(IN_ORDER, how) == TWICE[how] | HERE.get(how, {})
