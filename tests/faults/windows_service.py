"""A service with windows, sessions and Kafka Streams' sliding windows behind a repartition: workers load it as
`faults.windows_service:app`. Values are event times in ms; the key is the time's remainder."""

from __future__ import annotations

import os
from datetime import timedelta

import kstream
from faults import injection

WINDOW_MS, GAP_MS, APART_MS, KEYS, PARTITIONS = 1000, 14, 12, 5, 3


def residue(at: int) -> int:
    return at % KEYS


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=int, partitions=PARTITIONS, timestamp=lambda at: at)
    counts = app.topic(f"{name}.counts", key=kstream.Windowed[int], value=int, partitions=2)
    group = app.stream(events).group_by(residue, name="by", key=int, parallelism=2)
    windows = group.window(kstream.Tumbling(timedelta(milliseconds=WINDOW_MS)), grace=timedelta(0))
    windows.count(name="per-second", emit="close").to(counts)
    spans = app.topic(f"{name}.spans", key=kstream.WindowedSpan[int], value=int, partitions=2)
    sessions = group.window(kstream.Session(timedelta(milliseconds=GAP_MS)), grace=timedelta(0))
    sessions.count(name="sessions", emit="close").to(spans)
    near = app.topic(f"{name}.near", key=kstream.Windowed[int], value=int, partitions=2)
    sliding = group.window(kstream.KafkaSliding(timedelta(milliseconds=APART_MS)), grace=timedelta(0))
    sliding.count(name="sliding", emit="close").to(near)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "windows"))
injection.install()
