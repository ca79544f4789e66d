"""`python -m services.flights.feed`: the year's flights over and over, as if they left now, until SIGTERM.

Delivery is confirmed portion by portion: after each, the file of `--alive` is touched, so its age tells whether records
get through. A failure ends the feeder with one line and status 1; whoever started it starts it again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from kstream.errors import KStreamError
from services.flights.app import Flight, flights
from services.flights.replay import read_flights, replay

PORTION = 5.0  # seconds


def as_if_now(year: Iterable[Flight]) -> Iterator[Flight]:
    """The flights, again and again, each scheduled for when it is taken: latencies are then true."""
    for flight in itertools.cycle(year):
        yield msgspec.structs.replace(flight, scheduled=datetime.now(UTC))


def feed(servers: str, rate: float, alive: Path | None, stop: threading.Event) -> int:
    """Produces `rate` flights a second into the service's topic until `stop` is set; returns how many.

    Raises:
        KStreamError: some were not delivered.
    """
    stream, count = as_if_now(read_flights()), 0
    while not stop.is_set():
        portion = itertools.islice(stream, max(1, round(rate * PORTION)))
        count += replay(portion, flights.name, {"bootstrap.servers": servers}, rate=rate, stop=stop)
        if alive is not None:
            alive.touch()
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.flights.feed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=float, default=50.0, help="flights a second (50)")
    parser.add_argument("--alive", type=Path, help="a file that is touched while flights are delivered")
    given = parser.parse_args()
    if given.rate <= 0:
        parser.error("--rate: more than 0")
    servers = os.environ.get("KSTREAM_BOOTSTRAP_SERVERS", "localhost:9092")
    stop = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        count = feed(servers, given.rate, given.alive, stop)
    except KStreamError as error:
        print(f"feed: {error}", file=sys.stderr)
        return 1
    print(f"feed: {count:,} flights", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
