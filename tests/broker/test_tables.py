"""Tables that are joined by a foreign key, and as they were, on a real Kafka, with a worker killed meanwhile."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from broker.tables_service import make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.observing import QUICK
from support.running import kill, prepare, until
from support.serving import Served


def test_joins_are_what_the_rows_say_though_a_worker_is_killed(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"tables-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    app = make_app(name)
    prepare(app, Settings(bootstrap_servers=bootstrap_servers))
    given = Settings(
        bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "a"), instance="a", **QUICK
    )  # fmt: skip
    served = Served(app, "broker.tables_service:app", given, 2)
    seats, priced = f"{name}.seats", f"{name}.priced"
    reader = Reader(bootstrap_servers, [seats, priced])
    now = round(time.time() * 1000) - 100_000
    office = {f"o{n}": f"place {n}" for n in range(10)}
    staff: dict[str, str | None] = {}

    def move(start: int) -> None:
        rows = [(f"e{n % 40}", None if n % 7 == 0 else f"v{n}|o{n % 12}", now + n) for n in range(start, start + 200)]
        staff.update({key: value for key, value, _ in rows})
        write(bootstrap_servers, f"{name}.employees", [(key, value and value.encode(), at) for key, value, at in rows])

    def are_seated() -> bool:
        reader.poll()
        last = {(row.key or b"").decode(): row.value for row in reader.rows[seats]}
        wanted = {key: f"{row}-{office.get(row.split('|')[1])}" for key, row in staff.items() if row is not None}
        return {key: row.decode() for key, row in last.items() if row is not None} == wanted

    try:
        write(bootstrap_servers, f"{name}.offices", [(key, value.encode(), now) for key, value in office.items()])
        move(0)
        until(are_seated, "the first results", each=reader.poll)
        move(200)
        kill(served.pids[0])
        office |= {f"o{n}": f"new place {n}" for n in range(5)}
        office.pop("o7")
        changed = [(f"o{n}", b"new place %d" % n, now + 1000) for n in range(5)]
        write(bootstrap_servers, f"{name}.offices", [*changed, ("o7", None, now + 1000)])
        move(400)
        until(are_seated, "the last results", each=reader.poll)
        write(bootstrap_servers, f"{name}.orders", [("o1", b"%d" % n, now + n) for n in range(900, 1100)])

        def are_priced() -> bool:
            reader.poll()
            return len(reader.rows[priced]) >= 200

        until(are_priced, "the orders", each=reader.poll)
        wanted = [f"{n}-{'new ' * (n >= 1000)}place 1" for n in range(900, 1100)]
        assert [(row.value or b"").decode() for row in reader.rows[priced]] == wanted
    finally:
        reader.close()
        served.stop()
