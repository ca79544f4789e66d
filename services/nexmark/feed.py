"""`python -m services.nexmark.feed`: writes the records of Nexmark into the three topics that the queries read.

At `--rate` records a second, which is then the rate of their event times too; without it as fast as it goes. The last
ones, an hour later, close all windows. Topics that are not there are made.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain

import msgspec

from kstream.errors import KStreamError
from kstream.runtime.kafka import KafkaClients
from kstream.types import NewTopic
from services.nexmark.generator import Events
from services.nexmark.model import PARTITIONS, PREFIX, TOPICS, Event, key_of, topic_of
from services.writing import Written, write


def feed(
    events: Iterable[Event],
    client: Mapping[str, str],
    *,
    prefix: str = PREFIX,
    rate: float | None = None,
    sent: Callable[[int], None] = lambda count: None,
    stop: threading.Event | None = None,
    stamps: list[int] | None = None,
) -> int:
    """Writes the records, stamped with the time at which they are written. Returns how many.

    Args:
        client, rate, sent, stop: as those of `write`.
        stamps: gets what each was stamped with, in ms.

    Raises:
        KStreamError: a record was not delivered.
    """
    encode, clock = msgspec.json.Encoder().encode, time.time

    def written() -> Iterator[Written]:
        for event in events:
            at = int(clock() * 1000)
            if stamps is not None:
                stamps.append(at)
            yield Written(topic_of(type(event), prefix), b"%d" % key_of(event), encode(event), at)

    return write(written(), client, rate=rate, sent=sent, stop=stop)


def make_topics(servers: str, prefix: str = PREFIX) -> None:
    """Makes those of the three topics that are not there."""
    admin = KafkaClients(servers).admin()
    with closing(admin):
        names = {topic_of(kind, prefix) for kind in TOPICS} - admin.topics(30).keys()
        admin.create_topics([NewTopic(name, PARTITIONS) for name in sorted(names)], 30)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.nexmark.feed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="how many records (1,000,000)")
    parser.add_argument("--rate", type=float, help="records a second (event times: 10,000; written as fast as it goes)")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other records (1)")
    given = parser.parse_args()
    servers = os.environ.get("KSTREAM_BOOTSTRAP_SERVERS", "localhost:9092")
    prefix = os.environ.get("NEXMARK_PREFIX", PREFIX)
    try:
        events = Events(given.events, 10_000 if given.rate is None else given.rate, given.seed)
        make_topics(servers, prefix)
        client = {"bootstrap.servers": servers}
        count = feed(chain(events, events.closing()), client, prefix=prefix, rate=given.rate)
    except KStreamError as error:
        print(f"feed: {error}", file=sys.stderr)
        return error.exit_status
    print(f"feed: {count:,} records", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
