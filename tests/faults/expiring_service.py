"""A service whose state expires in event time: workers load it as `faults.expiring_service:app`. Values are times."""

from __future__ import annotations

import os

import kstream
from faults import injection

TTL_MS = 1000


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=int, partitions=2, timestamp=lambda at: at)
    counts = app.topic(f"{name}.counts", key=str, value=int, partitions=2)
    ttl = kstream.TTL(seconds=TTL_MS / 1000, time="event", cleanup=(kstream.Sweep(most=3),))
    app.stream(events).group_by_key().count(name="bursts", ttl=ttl).to(counts)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "expiring"))
injection.install()
