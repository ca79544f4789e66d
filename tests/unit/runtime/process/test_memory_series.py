"""What a worker says of its memory: its budget, and what it takes of each share."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstream.runtime.process.garbage import GarbageCollection
from kstream.runtime.process.series import series_besides
from unit.runtime.harness import Counting, Fleet


def test_the_budget_stands_beside_what_is_taken_of_it(tmp_path: Path) -> None:
    app = Counting()
    fleet = Fleet(app.app, tmp_path, partitions=1, memory="100MiB", memory_fetch_max="5MiB")
    worker = fleet.start("a")
    fleet.send(app.source, [f"k{number}" for number in range(100)])
    fleet.settle()
    counted = GarbageCollection()
    try:
        _, series = series_besides(counted, worker)
    finally:
        counted.close()
        fleet.close()
    found = {(one.name, one.labels): one.value for one in series if one.name.startswith("memory_")}
    name = worker.worker.name
    budget = {share: found["memory_budget_bytes", (name, share)] for share in ("all", "state", "fetch")}
    assert budget == {"all": 100 << 20, "state": int(0.4 * (100 << 20)), "fetch": 5 << 20}
    # two stores of 100 entries each, all of them clean by now
    assert found["memory_used_bytes", (name, "state")] == pytest.approx(2 * 100 * 320, rel=0.3)
    assert found["memory_used_bytes", (name, "overlay")] == 0
    assert ("memory_used_bytes", (name, "fetch")) not in found, "nobody knows, without librdkafka's statistics"
