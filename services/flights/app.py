"""Flights: how late aircraft and carriers leave, from the stream of all scheduled departures.

    flights (by tail number) ──> follow ──> flights-aircraft    each aircraft's figures, after each of its flights
         │                          └─────> flights-alerts      more than an hour late, twice in a row
         └── by carrier ──> per-carrier ──> flights-carriers    each carrier's figures, after each of its flights

A flight's key is its aircraft's tail number, so all flights of an aircraft meet in one partition, in order, and the
table per aircraft needs no repartitioning. Flights for which no aircraft was named (2,512, all cancelled) have no key:
Kafka spreads them over the partitions; they count for their carrier, and for no aircraft.
"""

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

import kstream

LATE = 60  # minutes
FOREVER = {"retention.ms": "-1"}  # records stamped 2013 would be deleted within seconds under Kafka's default


class Flight(msgspec.Struct):
    scheduled: datetime
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    dep_delay: int | None  # minutes, below zero when early; None: it never left


class Aircraft(msgspec.Struct):
    legs: int = 0
    cancelled: int = 0
    total_delay: int = 0  # minutes late; leaving early counts as 0
    worst_delay: int = 0
    late_in_a_row: int = 0  # a cancelled leg neither adds to it nor ends it


class Alert(msgspec.Struct):
    flight: Flight
    late_in_a_row: int


class Carrier(msgspec.Struct):
    flights: int = 0
    cancelled: int = 0
    total_delay: int = 0  # minutes, those of early flights below zero
    mean_delay: float | None = None  # over the flights that left


app = kstream.App("flights")

flights = app.topic("flights", key=str, value=Flight, partitions=4, timestamp="scheduled", config=FOREVER)
aircraft = app.topic("flights-aircraft", key=str, value=Aircraft, partitions=4, config=FOREVER)
alerts = app.topic("flights-alerts", key=str, value=Alert, partitions=4, config=FOREVER)
carriers = app.topic("flights-carriers", key=str, value=Carrier, partitions=4, config=FOREVER)

fleet = app.table("fleet", key=str, value=Aircraft, default=Aircraft)


@app.agent(flights, to=aircraft)
async def follow(stream: kstream.AgentStream[str, Flight], ctx: kstream.Context[str]) -> AsyncIterator[Aircraft]:
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
                ctx.send(alerts, Alert(flight, plane.late_in_a_row))
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


by_carrier = app.stream(flights).group_by(lambda flight: flight.carrier, key=str, name="by-carrier")
by_carrier.aggregate(Carrier, count, name="per-carrier").to(carriers)
