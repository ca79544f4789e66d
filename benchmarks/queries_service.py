"""The service of `benchmarks.queries`: it counts by key, and what it has counted is asked for."""

from __future__ import annotations

import os

import kstream

PARTITIONS = 4
KEYS = 20_000


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}-events", key=str, value=int, partitions=PARTITIONS)
    app.stream(events).group_by_key().sum(int, name="totals", emit="commit")
    return app


app = make_app(os.environ.get("KSTREAM_BENCH_QUERIES", "bench-queries"))
