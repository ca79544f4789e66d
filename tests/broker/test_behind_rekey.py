"""A backlog of orders that travel through a repartition topic finds the prices of its times, not the last ones."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from broker.travelling_service import make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

KEYS = [f"k{n}" for n in range(5)]


def test_a_backlog_is_joined_in_the_order_of_its_times(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"travelling-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **QUICK)
    partitions = prepare(make_app(name), settings)
    output = Reader(bootstrap_servers, [f"{name}.out"])
    start = round(time.time() * 1000) - 1_000_000

    def rows(topic: str, shift: int, rounds: range) -> list[tuple[str, bytes, int]]:
        return [(key, f"{topic[0]}{n}".encode(), start + 1000 * n + shift) for n in rounds for key in KEYS]

    write(bootstrap_servers, f"{name}.prices", rows("prices", 0, range(200)))
    write(bootstrap_servers, f"{name}.orders", rows("orders", 500, range(200)))
    instance = Instance("broker.travelling_service:app", name, "a", settings, partitions)

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    try:
        until(lambda: len(output.rows[f"{name}.out"]) >= 1000, "the orders to be joined", each=poll)
        instance.stop()
        output.poll(1.0)
        found = [(row.key.decode(), (row.value or b"").decode()) for row in output.rows[f"{name}.out"]]
        assert {key: [value for one, value in found if one == key] for key in KEYS} == {
            key: [f"o{n}@p{n}" for n in range(200)] for key in KEYS
        }
    finally:
        instance.kill()
        output.close()
