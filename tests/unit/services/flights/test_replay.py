"""What is replayed, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from services.flights.app import Flight


def test_the_whole_year(year: list[Flight]) -> None:
    assert len(year) == 336_776
    assert year[0] == Flight(datetime(2013, 1, 1, 10, 15, tzinfo=UTC), "UA", 1545, "N14228", "EWR", "IAH", 2)
    assert len({flight.carrier for flight in year}) == 16
    assert sum(flight.carrier == "UA" for flight in year) == 58_665


def test_in_order_of_scheduled_departure(year: list[Flight]) -> None:
    assert all(before.scheduled <= after.scheduled for before, after in pairwise(year))


def test_ties_are_in_the_order_of_the_file(year: list[Flight]) -> None:
    six = datetime(2013, 1, 1, 11, 0, tzinfo=UTC)
    assert [flight.flight for flight in year if flight.scheduled == six][:4] == [461, 507, 5708, 79]


def test_flights_without_tail_number_never_left(year: list[Flight]) -> None:
    assert sum(flight.dep_delay is None for flight in year) == 8_255
    without = [flight for flight in year if flight.tailnum is None]
    assert len(without) == 2_512 and all(flight.dep_delay is None for flight in without)
