"""A service with windows on a topic that becomes quiet, which leaves out what comes twice: workers load it as
`faults.quiet_service:app`. Values are event times in ms."""

from __future__ import annotations

import os
from datetime import timedelta

import kstream
from faults import injection

WINDOW_MS = 1000


def at_of(at: int) -> int:
    return at


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(
        f"{name}.events", key=str, value=int, partitions=2, timestamp=lambda at: at, idle_advance=True,
        out_of_order=timedelta(milliseconds=100),
    )  # fmt: skip
    late = app.topic(f"{name}.late", key=str, value=int, partitions=1)
    counts = app.topic(f"{name}.counts", key=kstream.Windowed[str], value=int, partitions=1)
    once = app.stream(events).deduplicate(at_of, within=timedelta(seconds=60), name="seen")
    windows = once.group_by_key().window(
        kstream.Tumbling(timedelta(milliseconds=WINDOW_MS)), grace=timedelta(0), late=late
    )
    windows.count(name="per-second", emit="close").to(counts)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "quiet"))
injection.install()
