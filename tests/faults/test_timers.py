"""Workers are killed around the steps of commits with which timers fire: each fires once, in the order of time. Read
with plain clients."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from faults.timers_service import AFTER_MS, PARTITIONS, make_app
from kstream.config import Settings
from kstream.partitioning import partition_of
from support.kafka import Reader, Row, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN, STEP_MS, RECORDS = 1_700_000_000_000, 40, 400
"""Records of each partition, and the ms of event time between them."""
AT = ["write_changelogs:after", "commit_transaction:before", "commit_transaction:after", "apply_to_state:before"]


def keys_in(partition: int) -> list[str]:
    return [key for key in map(str, range(100)) if partition_of(key.encode(), PARTITIONS) == partition][:7]


def check_rung(rows: Iterable[Row], of_key: Mapping[str, int]) -> None:
    """Each timer has fired once; those of event time in their order."""
    found: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        clock, number, timer = (row.value or b"").decode().split()
        found[(row.key or b"").decode(), clock].append((int(number), timer))
    for key, count in of_key.items():
        expected = [(n, f"event-{n}") for n in range(1, count + 1)]
        assert found[key, "event"] == expected
        assert [number for number, _ in found[key, "wall"]] == [number for number, _ in expected]
        assert {timer for _, timer in found[key, "wall"]} == {f"wall-{number}" for number, _ in expected}


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit_with_which_timers_fire(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"timers-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", f"{at}:4")
    quick = QUICK | {"max_uncommitted_records": 50, "poll_batch": 20}
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **quick)
    partitions = prepare(make_app(name), settings)
    rung = [f"{name}.rung", f"{name}.rung-by-agent"]
    changelogs = [f"{name}-rings-timers-changelog", f"{name}-sets-timers-changelog"]
    output = Reader(bootstrap_servers, [*rung, *changelogs])
    instance = Instance("faults.timers_service:app", name, "a", settings, partitions)
    now = round(time.time() * 1000)
    of_key: defaultdict[str, int] = defaultdict(int)
    for partition in range(PARTITIONS):
        keys = keys_in(partition)
        sent = [(keys[n % 7], BEGAN + n * STEP_MS) for n in range(RECORDS)]
        for key, _ in sent:
            of_key[key] += 1
        last = BEGAN + RECORDS * STEP_MS + 2 * AFTER_MS  # makes all due that were set before, and sets none
        write(
            bootstrap_servers,
            f"{name}.events",
            ((key, str(value).encode(), now) for key, value in [*sent, (keys[0], -last)]),
        )

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    try:
        (tmp_path / "armed").touch()
        wanted = 2 * RECORDS * PARTITIONS
        until(lambda: all(len(output.rows[topic]) >= wanted for topic in rung), "the timers", each=poll)
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        for topic in rung:
            check_rung(output.rows[topic], of_key)
        for changelog in changelogs:
            left = {row.key: row.value for row in output.rows[changelog]}
            assert not any(left.values())
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()
