"""The service, through the TestDriver."""

from __future__ import annotations

from datetime import UTC, datetime

from kstream.testing import TestDriver
from services.airports.app import Airport, airports, alerts, app
from services.flights.app import Alert, Flight
from services.flights.app import alerts as put_out


def alert(origin: str, delay: int, row: int) -> Alert:
    return Alert(Flight(datetime(2013, 1, 1, tzinfo=UTC), "UA", 1, "N1", origin, "IAH", delay), row)


def test_it_counts_alerts_by_airport_once_in_spite_of_a_crash() -> None:
    with TestDriver(app) as d:
        d.send(alerts, alert("JFK", 70, 2), key="N1")
        d.send(alerts, alert("EWR", 300, 2), key="N2")
        d.send(alerts, alert("JFK", 90, 3), key="N1")
        d.crash()
        found = [(record.key, record.value) for record in d.records(airports)]
    assert [value for key, value in found if key == "JFK"] == [Airport(1, 70, 2), Airport(2, 90, 3)]
    assert [value for key, value in found if key == "EWR"] == [Airport(1, 300, 2)]


def test_its_input_is_what_flights_puts_out() -> None:
    assert (alerts.name, alerts.partitions) == (put_out.name, put_out.partitions)
