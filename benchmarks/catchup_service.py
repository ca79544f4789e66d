"""The service of `benchmarks.catchup`: how many records of each key came in each minute, behind a repartition."""

from __future__ import annotations

import os
from datetime import timedelta

import kstream

PARTITIONS = 3
KEYS = 10
WINDOW_MS = 60_000
GRACE_MS = 60_000


def key_of(number: int) -> str:
    return str(number % KEYS)


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}-in", key=str, value=int, partitions=PARTITIONS)
    out = app.topic(f"{name}-out", key=kstream.Windowed[str], value=int, partitions=PARTITIONS)
    group = app.stream(events).group_by(key_of, name="by-key", key=str)
    windows = group.window(kstream.Tumbling(timedelta(milliseconds=WINDOW_MS)), grace=timedelta(milliseconds=GRACE_MS))
    windows.count(name="per-minute", emit="close").to(out)
    return app


if "KSTREAM_BENCH_CATCHUP" in os.environ:
    app = make_app(os.environ["KSTREAM_BENCH_CATCHUP"])
