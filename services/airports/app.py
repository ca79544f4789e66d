"""Airports: from where aircraft leave late twice in a row, out of the alerts that services/flights puts out.

flights-alerts ──> by origin ──> per-origin ──> airports-alerts    each airport's figures, after each of its alerts
"""

import msgspec

import kstream
from services.flights.app import FOREVER, Alert


class Airport(msgspec.Struct):
    alerts: int = 0
    longest_delay: int = 0  # minutes
    longest_row: int = 0  # late departures in a row of one aircraft, the last of them from here


app = kstream.App("airports")

alerts = app.topic("flights-alerts", key=str, value=Alert, partitions=4, config=FOREVER)
airports = app.topic("airports-alerts", key=str, value=Airport, partitions=4, config=FOREVER)


def count(airport: Airport, alert: Alert) -> Airport:
    airport.alerts += 1
    airport.longest_delay = max(airport.longest_delay, alert.flight.dep_delay or 0)
    airport.longest_row = max(airport.longest_row, alert.late_in_a_row)
    return airport


by_origin = app.stream(alerts).group_by(lambda alert: alert.flight.origin, key=str, name="by-origin")
by_origin.aggregate(Airport, count, name="per-origin").to(airports)
