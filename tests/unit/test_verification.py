"""The auditor of tests/faults/test_verification.py: it agrees with what the app puts out, and finds each row that is
missing, there twice, or another."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from faults.verified_service import make_app
from kstream.testing import TestDriver
from support.kafka import Row
from support.verification import EXACT, INPUTS, OUTPUTS, STORES, Chunk, audit, wrong_input, wrong_offsets

BEGAN, COUNT = 1_700_000_000_000, 240
KEYS = [f"k{n}" for n in range(20)]
LAST = BEGAN + 3_600_000
"""In ms: the time of the last readings."""

Read = dict[str, list[Row]]


@pytest.fixture(scope="module")
def true() -> Read:
    """What the app puts out, on a Kafka in memory, with crashes."""
    app, draw = make_app("verified"), random.Random(1)
    topics = {name: f"verified.{name}" for name in (*INPUTS, *OUTPUTS)}
    topics |= {store: f"verified-{store}-changelog" for store in STORES}
    with TestDriver(app) as driver:

        def send(topic: str, key: str, value: object, at: int) -> None:
            driver.cluster.append(topics[topic], key.encode(), json.dumps(value).encode(), at)

        for number in range(COUNT):
            at = BEGAN + number * 100 - draw.randrange(1000)
            if draw.random() < 0.2:
                send("limits", draw.choice(KEYS), number, at)
            reading = {"number": number, "group": f"g{draw.randrange(3)}", "amount": draw.randrange(1, 100)}
            send("readings", draw.choice(KEYS), reading, at)
            if number % 40 == 39:
                driver.process()
                driver.crash()
            if number % 60 == 59:
                driver.commit()
        driver.commit()
        for n, key in enumerate(KEYS):
            send("limits", key, COUNT + n, LAST)
        driver.commit()
        for n, key in enumerate(KEYS):
            send("readings", key, {"number": COUNT + n, "group": "last", "amount": 1}, LAST + 1)
        driver.commit()
        return {
            name: [
                Row(one.partition, one.offset, one.key or b"", one.value, one.timestamp)
                for one in driver.cluster.records(topic)
                if not one.control
            ]
            for name, topic in topics.items()
        }


def judge(rows: Read) -> list[str]:
    return audit(rows, LAST - 60_000)


def test_it_agrees(true: Read) -> None:
    assert judge(true) == []
    assert all(len(true[name]) > 10 for name in (*INPUTS, *OUTPUTS, *STORES)), {name: len(true[name]) for name in true}


def missing(rows: list[Row], at: int) -> list[Row]:
    return rows[:at] + rows[at + 1 :]


def twice(rows: list[Row], at: int) -> list[Row]:
    return [*rows, rows[at]._replace(offset=rows[at].offset + 1_000_000)]


def another(rows: list[Row], at: int) -> list[Row]:
    """Its first digit is another one: the last one of a fraction may say nothing."""
    value = (rows[at].value or b"").decode()
    place = min(n for n, letter in enumerate(value) if letter.isdigit())
    digit = "8" if value[place] == "9" else str(int(value[place]) + 1)
    changed = value[:place] + digit + value[place + 1 :]
    return [*rows[:at], rows[at]._replace(value=changed.encode()), *rows[at + 1 :]]


def first_of_key(rows: list[Row], at: int) -> bool:
    return all(row.key != rows[at].key for row in rows[:at])


def last_of_key(rows: list[Row], at: int) -> bool:
    return all(row.key != rows[at].key for row in rows[at + 1 :])


def any_row(_: list[Row], __: int) -> bool:
    return True


@pytest.mark.parametrize("mutant", [missing, twice, another])
@pytest.mark.parametrize(
    ("topic", "those"),
    [
        *((topic, any_row) for topic in (*EXACT, "checked", "groups", "windows")),
        ("overview", lambda rows, at: not first_of_key(rows, at)),  # a limit may have come before the first reading
        ("latest", last_of_key),  # how many there are before that depends on when commits happened
        *((store, last_of_key) for store in STORES),
    ],
)
def test_each_row_that_is_wrong_is_found(
    true: Read,
    topic: str,
    those: Callable[[list[Row], int], bool],
    mutant: Callable[[list[Row], int], list[Row]],
) -> None:
    places = [at for at in range(len(true[topic])) if those(true[topic], at)]
    if mutant is twice and topic in STORES:
        places = []  # of a compacted topic that says nothing
    for at in random.Random(topic).sample(places, min(len(places), 12)):
        wrong = judge({**true, topic: mutant(true[topic], at)})
        assert len(wrong) == 1 and topic in wrong[0], (at, wrong)


def test_rows_in_another_order_are_found(true: Read) -> None:
    rows = true["echo"]
    one, other = [at for at in range(len(rows)) if rows[at].partition == rows[0].partition][5:7]
    swapped = [*rows]
    swapped[one] = rows[one]._replace(offset=rows[other].offset)
    swapped[other] = rows[other]._replace(offset=rows[one].offset)
    assert len(judge({**true, "echo": swapped})) == 1


def test_a_limit_that_is_gone_again_is_found(true: Read) -> None:
    """The row is one that its key had and has no more: what a restore that lost an update would give."""
    rows, before = true["checked"], {}
    for at, row in enumerate(rows):
        number, limit = json.loads(row.value or b"")
        if before.get(row.key, -1) == limit != -1:
            gone = row._replace(value=json.dumps([number, -1]).encode())
            (wrong,) = judge({**true, "checked": [*rows[:at], gone, *rows[at + 1 :]]})
            assert "gone again" in wrong
        before[row.key] = limit


def test_input_that_is_not_what_was_written_is_found(true: Read) -> None:
    rows = true["readings"]
    assert wrong_input([Chunk(range(COUNT), "committed"), Chunk(range(5000, 5010), "aborted")], rows) == []
    assert wrong_input([Chunk(range(COUNT), "unknown"), Chunk(range(5000, 5010), "unknown")], rows) == []
    assert len(wrong_input([Chunk(range(COUNT), "aborted")], rows)) == 1
    assert len(wrong_input([Chunk(range(5000, 5010), "committed")], rows)) == 1
    assert len(wrong_input([Chunk(range(COUNT), "committed")], rows[1:])) == 1
    assert len(wrong_input([Chunk(range(COUNT), "unknown")], [*rows, rows[0]])) == 1


def test_offsets_before_the_last_record_and_beyond_the_end_are_found(true: Read) -> None:
    rows = {"readings": [row for row in true["readings"] if row.partition == 0]}
    last = rows["readings"][-1].offset
    for offset, good in ((last + 1, True), (last + 2, True), (last, False), (last + 3, False)):
        assert (wrong_offsets({("readings", 0): offset}, rows, {"readings": [last + 2]}) == []) == good
    assert wrong_offsets({}, rows, {"readings": [last + 2, 0]}) != []
    assert wrong_offsets({}, {"empty": []}, {"empty": [0]}) == []
