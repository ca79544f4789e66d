"""A service that writes into PostgreSQL, for workers that are killed. Loaded as `faults.sink_service:app`."""

from __future__ import annotations

import os
from typing import Any

import kstream
from faults import injection
from kstream.sinks.postgres import Mode, PostgresSink

app = kstream.App(os.environ.get("KSTREAM_TEST_APP", "sinks"))
numbers = app.topic(f"{app.name}.numbers", key=str, value=int, partitions=2)


def row(record: kstream.SinkRecord[str, int]) -> dict[str, Any]:
    return {"key": record.key, "value": record.value}


SINKS: list[tuple[Mode, str, list[str]]] = [("exactly_once", "lines", []), ("upsert", "latest", ["key"])]
for mode, table, keys in SINKS:
    sink = PostgresSink(lambda: os.environ["KSTREAM_TEST_POSTGRES"], table, row, mode=mode, key=keys, size=50)
    app.stream(numbers).sink(sink, name=table)
injection.install()
