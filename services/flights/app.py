"""Flights: how late aircraft and carriers leave, from the stream of all scheduled departures.

    flights (by tail number) ──> follow ──> flights-aircraft    each aircraft's figures, after each of its flights
         │                          └─────> flights-alerts      more than an hour late, twice in a row
         └── by carrier ──> per-carrier ──> flights-carriers    each carrier's figures, after each of its flights

A flight's key is its aircraft's tail number, so all flights of an aircraft meet in one partition, in order, and the
table per aircraft needs no repartitioning. Flights for which no aircraft was named (2,512, all cancelled) have no key:
Kafka spreads them over the partitions, they count for their carrier, and for no aircraft.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

import kstream

LATE = 60  # minutes
FOREVER = {"retention.ms": "-1"}  # records stamped 2013 would be deleted within seconds under Kafka's default


class Flight(msgspec.Struct):
    """One scheduled departure. `dep_delay` is in minutes, negative when early, None for a flight that never left."""

    scheduled: datetime
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    dep_delay: int | None


class Aircraft(msgspec.Struct):
    """`total_delay` and `worst_delay` are minutes late; leaving early counts as 0."""

    legs: int = 0
    cancelled: int = 0
    total_delay: int = 0
    worst_delay: int = 0
    late_in_a_row: int = 0


class Alert(msgspec.Struct):
    scheduled: datetime
    carrier: str
    flight: int
    dep_delay: int
    late_in_a_row: int


class Carrier(msgspec.Struct):
    """`mean_delay` is over the flights that left, early ones below zero; None before the first of them."""

    flights: int = 0
    cancelled: int = 0
    total_delay: int = 0
    mean_delay: float | None = None


app = kstream.App("flights")

flights = app.topic("flights", key=str, value=Flight, partitions=4, timestamp="scheduled", config=FOREVER)
aircraft = app.topic("flights-aircraft", key=str, value=Aircraft, partitions=4, config=FOREVER)
alerts = app.topic("flights-alerts", key=str, value=Alert, partitions=4, config=FOREVER)
carriers = app.topic("flights-carriers", key=str, value=Carrier, partitions=4, config=FOREVER)

fleet = app.table("fleet", key=str, value=Aircraft, default=Aircraft)


@app.agent(flights, to=aircraft)
async def follow(stream: kstream.AgentStream[str, Flight], ctx: kstream.Context[str]) -> AsyncIterator[Aircraft]:
    """Keeps the figures of each aircraft. A cancelled leg neither adds to a row of late departures nor ends it."""
    async for flight in stream:
        if flight.tailnum is None:
            continue
        plane = fleet[flight.tailnum]
        if flight.dep_delay is None:
            plane.cancelled += 1
        else:
            plane.legs += 1
            plane.total_delay += max(flight.dep_delay, 0)
            plane.worst_delay = max(flight.dep_delay, plane.worst_delay)
            plane.late_in_a_row = plane.late_in_a_row + 1 if flight.dep_delay > LATE else 0
            if plane.late_in_a_row >= 2:
                ctx.send(
                    alerts,
                    Alert(flight.scheduled, flight.carrier, flight.flight, flight.dep_delay, plane.late_in_a_row),
                )
        fleet[flight.tailnum] = plane
        yield plane


def count(total: Carrier, flight: Flight) -> Carrier:
    total.flights += 1
    if flight.dep_delay is None:
        total.cancelled += 1
    else:
        total.total_delay += flight.dep_delay
        total.mean_delay = total.total_delay / (total.flights - total.cancelled)
    return total


(
    app.stream(flights)
    .group_by(lambda flight: flight.carrier, key=str, name="by-carrier")
    .aggregate(Carrier, count, name="per-carrier")
    .to(carriers)
)
