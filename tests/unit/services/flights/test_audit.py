"""The audit agrees with the service on real flights, and catches everything that could be wrong with the output."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy

import pytest

from kstream.testing import TestDriver
from services.flights import audit
from services.flights.app import Flight, app, flights
from services.flights.audit import AIRCRAFT, ALERTS, CARRIERS, Expected, Outputs

COUNT = 3_000


@pytest.fixture(scope="module")
def expected(rows: list[dict[str, str]]) -> Expected:
    return audit.expect(rows[:COUNT])


@pytest.fixture(scope="module")
def true_outputs(year: list[Flight]) -> Outputs:
    """What the service itself puts out, on an in-memory Kafka."""
    outputs: Outputs = {topic: defaultdict(list) for topic in audit.TOPICS}
    with TestDriver(app) as driver:
        for flight in year[:COUNT]:
            driver.send(flights, flight, key=flight.tailnum, timestamp=flight.scheduled)
        driver.commit()
        for topic in audit.TOPICS:
            for record in driver.cluster.records(topic):
                assert record.key is not None and record.value is not None
                outputs[topic][record.key.decode()].append(json.loads(record.value))
    return outputs


@pytest.fixture
def outputs(true_outputs: Outputs) -> Outputs:
    return deepcopy(true_outputs)


@pytest.fixture
def tail(outputs: Outputs) -> str:
    """An aircraft with several updates and alerts."""
    return max(outputs[ALERTS], key=lambda tail: len(outputs[ALERTS][tail]))


def judge(expected: Expected, outputs: Outputs) -> audit.Verdict:
    return audit.compare(expected, outputs, whole_year=False)


def test_the_whole_year_is_as_it_is_known_to_be(rows: list[dict[str, str]]) -> None:
    expected = audit.expect(rows)
    assert (expected.flights, expected.not_departed, expected.without_tail_number) == (336_776, 8_255, 2_512)
    assert expected.records == {AIRCRAFT: 334_264, ALERTS: 4_262, CARRIERS: 336_776}
    assert len(expected.steps) == 16 and expected.steps["UA"].total() == 58_665


def test_both_readings_have_one_order(rows: list[dict[str, str]], year: list[Flight]) -> None:
    ours = [(row["carrier"], int(row["flight"]), row["tailnum"]) for row in rows]
    assert ours == [(flight.carrier, flight.flight, flight.tailnum or "NA") for flight in year]


def test_the_service_passes(expected: Expected, outputs: Outputs) -> None:
    verdict = judge(expected, outputs)
    assert verdict.ok and verdict.differences == []
    assert (verdict.lost, verdict.duplicated, verdict.wrong) == (0, 0, 0)
    assert verdict.records == sum(expected.records.values())


def test_part_of_the_year_is_not_the_year(expected: Expected, outputs: Outputs) -> None:
    verdict = audit.compare(expected, outputs, whole_year=True)
    assert not verdict.ok and "336,776 is well known" in verdict.differences[0]


@pytest.mark.parametrize("place", [0, 3, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("topic", [AIRCRAFT, CARRIERS])
def test_a_lost_record(expected: Expected, outputs: Outputs, tail: str, topic: str, place: int) -> None:
    key = tail if topic == AIRCRAFT else "UA"
    del outputs[topic][key][place]
    verdict = judge(expected, outputs)
    assert not verdict.ok and (verdict.lost, verdict.duplicated) == (1, 0)
    assert key in verdict.differences[0] and "missing" in verdict.differences[0]


@pytest.mark.parametrize("place", [0, 3, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("topic", [AIRCRAFT, CARRIERS])
def test_a_record_written_twice(expected: Expected, outputs: Outputs, tail: str, topic: str, place: int) -> None:
    key = tail if topic == AIRCRAFT else "UA"
    outputs[topic][key].append(outputs[topic][key][place])
    verdict = judge(expected, outputs)
    assert not verdict.ok and (verdict.lost, verdict.duplicated) == (0, 1)
    assert "1 updates too many" in verdict.differences[0]


def test_a_key_that_is_lost_altogether(expected: Expected, outputs: Outputs, tail: str) -> None:
    gone = len(outputs[AIRCRAFT].pop(tail))
    verdict = judge(expected, outputs)
    assert not verdict.ok and verdict.lost == gone


def test_a_key_that_must_not_be(expected: Expected, outputs: Outputs, tail: str) -> None:
    outputs[AIRCRAFT]["NA"] = outputs[AIRCRAFT][tail]
    verdict = judge(expected, outputs)
    assert not verdict.ok and verdict.duplicated == len(outputs[AIRCRAFT][tail])


def test_a_flight_counted_twice(expected: Expected, outputs: Outputs) -> None:
    """As after a replay without exactly-once: the input's record is processed again, on top of the state."""
    last = outputs[CARRIERS]["UA"][-1]
    again = {**last, "flights": last["flights"] + 1}
    again["mean_delay"] = again["total_delay"] / (again["flights"] - again["cancelled"])
    outputs[CARRIERS]["UA"].append(again)
    verdict = judge(expected, outputs)
    assert not verdict.ok and (verdict.lost, verdict.duplicated) == (0, 1)


@pytest.mark.parametrize("field", ["total_delay", "worst_delay", "late_in_a_row"])
def test_a_wrong_value_of_an_aircraft(expected: Expected, outputs: Outputs, tail: str, field: str) -> None:
    outputs[AIRCRAFT][tail][2][field] += 1
    verdict = judge(expected, outputs)
    assert not verdict.ok and (verdict.lost, verdict.duplicated, verdict.wrong) == (0, 0, 1)
    assert f"aircraft {tail}: update 3 is" in verdict.differences[0]


@pytest.mark.parametrize("field", ["cancelled", "total_delay", "mean_delay"])
def test_a_wrong_value_of_a_carrier(expected: Expected, outputs: Outputs, field: str) -> None:
    outputs[CARRIERS]["UA"][100][field] += 1000
    verdict = judge(expected, outputs)
    assert not verdict.ok and verdict.wrong >= 1 and "carrier UA" in verdict.differences[0]


def test_a_flight_of_another_carrier(expected: Expected, outputs: Outputs) -> None:
    """Counts are right, sums are not: one flight's minutes went into the wrong carrier's figures."""
    for carrier, minutes in (("UA", 7), ("DL", -7)):
        for update in outputs[CARRIERS][carrier][50:]:
            update["total_delay"] += minutes
            update["mean_delay"] = update["total_delay"] / (update["flights"] - update["cancelled"])
    verdict = judge(expected, outputs)
    assert not verdict.ok and verdict.wrong >= 2


@pytest.mark.parametrize("topic", [AIRCRAFT, ALERTS, CARRIERS])
def test_the_wrong_order(expected: Expected, outputs: Outputs, tail: str, topic: str) -> None:
    values = outputs[topic]["UA" if topic == CARRIERS else tail]
    values[0], values[1] = values[1], values[0]
    verdict = judge(expected, outputs)
    assert not verdict.ok and "out of order" in "".join(verdict.differences)


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        (lambda values: values.pop(), (1, 0, 0)),
        (lambda values: values.append(values[0]), (0, 1, 0)),
        (lambda values: values.append({**values[0], "late_in_a_row": 99}), (0, 0, 1)),
    ],
    ids=["lost", "twice", "false"],
)
def test_alerts(
    expected: Expected,
    outputs: Outputs,
    tail: str,
    change: Callable[[list[audit.Update]], None],
    figures: tuple[int, int, int],
) -> None:
    change(outputs[ALERTS][tail])
    verdict = judge(expected, outputs)
    assert not verdict.ok and (verdict.lost, verdict.duplicated, verdict.wrong) == figures


def test_what_is_no_update_at_all(expected: Expected, outputs: Outputs, tail: str) -> None:
    for topic, key in ((AIRCRAFT, tail), (CARRIERS, "UA"), (ALERTS, tail)):
        outputs[topic][key].append({"not an object": None})
    assert not judge(expected, outputs).ok


def test_only_the_first_differences_are_told(expected: Expected, outputs: Outputs) -> None:
    outputs[AIRCRAFT].clear()
    verdict = judge(expected, outputs)
    assert len(verdict.differences) == audit.SHOWN and verdict.not_shown == len(expected.aircraft) - audit.SHOWN
