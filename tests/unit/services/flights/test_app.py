"""The service, through the TestDriver."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from kstream.testing import TestDriver
from services.flights.app import Aircraft, Alert, Carrier, Flight, aircraft, alerts, app, carriers, fleet, flights

NEW_YEAR = datetime(2013, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    with TestDriver(app) as driver:
        yield driver


class Airport:
    """Sends flights, an hour after one another."""

    def __init__(self, driver: TestDriver) -> None:
        self.driver, self.sent = driver, 0

    def leaves(self, tail: str | None, delay: int | None, carrier: str = "UA") -> datetime:
        self.sent += 1
        at = NEW_YEAR + timedelta(hours=self.sent)
        flight = Flight(at, carrier, self.sent, tail, "JFK", "BOS", delay)
        self.driver.send(flights, flight, key=tail)
        return at


@pytest.fixture
def airport(driver: TestDriver) -> Airport:
    return Airport(driver)


def test_each_flight_updates_its_aircraft(driver: TestDriver, airport: Airport) -> None:
    for delay in (10, -5, None, 25):
        airport.leaves("N1", delay)
    airport.leaves("N2", 3)
    updates = [(record.key, record.value) for record in driver.records(aircraft)]
    assert [value for key, value in updates if key == "N1"] == [
        Aircraft(legs=1, total_delay=10, worst_delay=10),
        Aircraft(legs=2, total_delay=10, worst_delay=10),  # early is not late
        Aircraft(legs=2, cancelled=1, total_delay=10, worst_delay=10),
        Aircraft(legs=3, cancelled=1, total_delay=35, worst_delay=25),
    ]
    assert dict(driver.table(fleet)) == {
        "N1": Aircraft(legs=3, cancelled=1, total_delay=35, worst_delay=25),
        "N2": Aircraft(legs=1, total_delay=3, worst_delay=3),
    }


def test_outputs_are_stamped_with_the_scheduled_departure(driver: TestDriver, airport: Airport) -> None:
    at = airport.leaves("N1", 10)
    assert [record.timestamp for record in driver.records(aircraft)] == [at.timestamp() * 1000]
    assert [record.timestamp for record in driver.records(carriers)] == [at.timestamp() * 1000]


def test_an_alert_for_each_late_departure_that_follows_another(driver: TestDriver, airport: Airport) -> None:
    for delay in (61, 60, 61, 90, 120, 0, 100):
        airport.leaves("N1", delay)
    records = [(record.key, record.value) for record in driver.records(alerts)]
    assert [(key, alert.flight.dep_delay, alert.late_in_a_row) for key, alert in records] == [
        ("N1", 90, 2),
        ("N1", 120, 3),
    ]


def test_a_cancelled_flight_does_not_end_a_row_of_late_ones(driver: TestDriver, airport: Airport) -> None:
    airport.leaves("N1", 61)
    airport.leaves("N1", None)
    airport.leaves("N2", 200)
    at = airport.leaves("N1", 62, carrier="DL")
    assert driver.values(alerts) == [Alert(Flight(at, "DL", 4, "N1", "JFK", "BOS", 62), 2)]


def test_each_flight_updates_its_carrier(driver: TestDriver, airport: Airport) -> None:
    airport.leaves("N1", None)
    airport.leaves("N2", 10)
    airport.leaves("N3", -5)
    airport.leaves("N4", 7, carrier="DL")
    updates = [(record.key, record.value) for record in driver.records(carriers)]
    assert [value for key, value in updates if key == "UA"] == [
        Carrier(flights=1, cancelled=1, total_delay=0, mean_delay=None),
        Carrier(flights=2, cancelled=1, total_delay=10, mean_delay=10.0),
        Carrier(flights=3, cancelled=1, total_delay=5, mean_delay=2.5),
    ]
    assert [value for key, value in updates if key == "DL"] == [Carrier(1, 0, 7, 7.0)]


def test_flights_without_a_tail_number_count_for_their_carrier_only(driver: TestDriver, airport: Airport) -> None:
    airport.leaves(None, None)
    airport.leaves(None, None)
    assert driver.values(aircraft) == [] and driver.values(alerts) == []
    assert driver.values(carriers)[-1] == Carrier(flights=2, cancelled=2)


def test_a_crash_before_the_commit_changes_nothing(driver: TestDriver, airport: Airport) -> None:
    airport.leaves("N1", 61)
    driver.commit()
    airport.leaves("N1", 62)
    driver.crash()
    airport.leaves("N1", 63)
    assert [alert.late_in_a_row for alert in driver.values(alerts)] == [2, 3]
    assert [update.legs for update in driver.values(aircraft)] == [1, 2, 3]
    assert [update.flights for update in driver.values(carriers)] == [1, 2, 3]
