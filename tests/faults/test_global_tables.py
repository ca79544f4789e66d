"""Workers with a global table that are killed: while they read it for the first time, and once they follow it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from broker.global_service import make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.observing import QUICK
from support.running import kill, prepare, until
from support.serving import Served

ROWS = 20_000


def test_a_killed_worker_goes_on_with_its_copy(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record is joined with half a table, whenever the worker was killed."""
    name = f"global-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    app = make_app(name)
    prepare(app, Settings(bootstrap_servers=bootstrap_servers))
    write(bootstrap_servers, f"{name}.prices", [(f"p{n}", b"%d" % n, 0) for n in range(ROWS)])
    orders = [f"{n}|p{n * 397 % ROWS}" for n in range(300)]
    write(bootstrap_servers, f"{name}.orders", [(order, order.encode(), 0) for order in orders])
    found, counts = f"{name}.found", f"{name}.counts"
    reader = Reader(bootstrap_servers, [found, counts])
    given = Settings(
        bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path), instance="a", poll_batch=20, flush_interval=0.2,
        **QUICK,
    )  # fmt: skip
    served = Served(app, "broker.global_service:app", given)

    def has_begun() -> bool:
        return any(one.there or 0 < one.lag < ROWS for one in served.status().tables)

    def killed() -> None:
        (pid,) = served.pids
        kill(pid)
        until(lambda: served.pids and served.pids != [pid], "another worker")

    def results(count: int) -> list[str]:
        def are_there() -> bool:
            reader.poll()
            return len(reader.rows[found]) >= count and len(reader.rows[counts]) >= count

        until(are_there, f"{count} results", each=reader.poll)
        return sorted((row.value or b"").decode() for row in reader.rows[found])

    try:
        until(has_begun, "the worker to read its table")
        killed()
        wanted = [f"{order}-{order.partition('|p')[2]}" for order in orders]
        assert results(len(wanted)) == sorted(wanted)
        assert {int(row.value or b"") for row in reader.rows[counts]} == {ROWS}

        write(bootstrap_servers, f"{name}.prices", [("p1", None, 0), ("p2", b"two", 0)])
        until(lambda: all(one.there and not one.lag for one in served.status().tables), "the table to be followed")
        killed()
        write(bootstrap_servers, f"{name}.orders", [(key, f"last|{key}".encode(), 0) for key in ("p1", "p2", "p3")])
        wanted += ["last|p1-None", "last|p2-two", "last|p3-3"]
        assert results(len(wanted)) == sorted(wanted)
        read = served.metrics()("kstream_global_table_records_total", table="prices")
        assert read < 3 * ROWS, "what was flushed was not read again each time"
    finally:
        reader.close()
        served.stop()
