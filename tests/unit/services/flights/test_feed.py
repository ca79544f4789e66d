"""What the feeder makes of the year."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from services.flights.app import Flight
from services.flights.feed import as_if_now


def test_flights_leave_when_they_are_taken_over_and_over() -> None:
    year = [Flight(datetime(2013, 1, day, tzinfo=UTC), "UA", day, f"N{day}", "JFK", "IAH", 5) for day in (1, 2)]
    began = datetime.now(UTC)
    taken = list(itertools.islice(as_if_now(year), 5))
    assert [flight.flight for flight in taken] == [1, 2, 1, 2, 1]
    times = [flight.scheduled for flight in taken]
    assert began <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(UTC)
