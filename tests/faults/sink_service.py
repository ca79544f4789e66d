"""A service that writes into PostgreSQL, for workers that are killed. Loaded as `faults.sink_service:app`.

KSTREAM_TEST_SINK  the class of tests/support/postgres_sinks.py that writes the table `lines`
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kstream
from faults import injection
from kstream.sinks.postgres import PostgresSink
from support.postgres_sinks import SINKS

app = kstream.App(os.environ.get("KSTREAM_TEST_APP", "sinks"))
numbers = app.topic(f"{app.name}.numbers", key=str, value=int, partitions=2)


def row(record: kstream.SinkRecord[str, int]) -> dict[str, Any]:
    return {"key": record.key, "value": record.value}


def where() -> str:
    return os.environ["KSTREAM_TEST_POSTGRES"]


lines = SINKS[os.environ.get("KSTREAM_TEST_SINK", "Watched")](where, "lines", row, size=50)


def written() -> None:
    injection.here("sink_write", "after")
    if lines.dropped and "KSTREAM_TEST_DIR" in os.environ:
        (Path(os.environ["KSTREAM_TEST_DIR"]) / "dropped").write_text(str(lines.dropped))


lines.between = lambda: injection.here("sink_between", "after")
lines.written = written
app.stream(numbers).sink(lines, name="lines")
app.stream(numbers).sink(PostgresSink(where, "latest", row, mode="upsert", key=["key"], size=50), name="latest")
injection.install()
