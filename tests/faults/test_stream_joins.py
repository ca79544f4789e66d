"""Workers are killed around the steps of commits while two streams are joined by time, behind repartition topics: each
record of the left has one result, joined or not, and nothing of it is kept. Read with plain clients."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from faults.paying_service import WITHIN_MS, make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN, ORDERS, STEP = 1_700_000_000_000, 3000, 10
AT = ["commit_transaction:after", "write_changelogs:after", "commit_transaction:before", "apply_to_state:before"]


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"paying-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", f"{at}:4")
    quick = QUICK | {"max_uncommitted_records": 500, "poll_batch": 200}
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **quick)
    partitions = prepare(make_app(name), settings)
    changelogs = [f"{name}-paid-{side}-changelog" for side in ("left", "right")]
    output = Reader(bootstrap_servers, [f"{name}.paid", *changelogs])
    instance = Instance("faults.paying_service:app", name, "a", settings, partitions)
    now, end = round(time.time() * 1000), BEGAN + ORDERS * STEP + 100 * WITHIN_MS

    def events(offset: int, kept: list[int]) -> list[tuple[str, bytes, int]]:
        """In the partition of the sender; at last one for each, far behind, by which the others are over."""
        found = [(f"s{n % 7}", json.dumps([n, BEGAN + n * STEP + offset]).encode(), now) for n in kept]
        return found + [(f"s{n}", json.dumps([-1 - n, end]).encode(), now) for n in range(20)]

    paid = [n for n in range(ORDERS) if n % 3]
    write(bootstrap_servers, f"{name}.orders", events(0, list(range(ORDERS))))
    write(bootstrap_servers, f"{name}.payments", events(WITHIN_MS // 2, paid))

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    try:
        (tmp_path / "armed").touch()
        until(lambda: len(output.rows[f"{name}.paid"]) >= ORDERS, "the results", each=poll)
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        found = Counter(tuple(json.loads(row.value or b"")) for row in output.rows[f"{name}.paid"])
        wanted = {(n, BEGAN + n * STEP + WITHIN_MS // 2 if n % 3 else -1) for n in range(ORDERS)}
        assert found == Counter({one: 1 for one in wanted} | {(-1 - n, end): 1 for n in range(20)})
        for changelog in changelogs:
            left = {row.key: row.value for row in output.rows[changelog]}
            orders = {int((key or b"")[12:]) for key, value in left.items() if value is not None}
            assert all(order < 0 for order in orders)
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()
