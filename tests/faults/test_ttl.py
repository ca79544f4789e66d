"""Workers are killed around the steps of commits with which state expires: each key's counts begin anew after each of
its pauses, once, and expired entries leave the changelog. Read with plain clients."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections import defaultdict
from pathlib import Path

import pytest

from faults.expiring_service import ROUND_MS, TTL_MS, make_app, make_carts
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

KEYS, BURST, STEP_MS = 10, 40, 10
"""A key comes so many times in a row, and is away for longer than the TTL then."""
BEGAN = 1_700_000_000_000
AT = ["write_changelogs:after", "commit_transaction:before", "commit_transaction:after", "apply_to_state:before"]


def key_of(number: int) -> str:
    return f"k{number // BURST % KEYS}"


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit_with_which_state_expires(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, fed, bursts = f"expiring-{uuid.uuid4().hex[:8]}", 0, 3 * KEYS
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", f"{at}:6")
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **QUICK)
    partitions = prepare(make_app(name), settings)
    changelog = f"{name}-bursts-changelog"
    output = Reader(bootstrap_servers, [f"{name}.counts", changelog])
    instance = Instance("faults.expiring_service:app", name, "a", settings, partitions)

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    try:
        (tmp_path / "armed").touch()
        while fed < bursts * BURST:
            numbers = range(fed, fed + BURST)
            now = round(time.time() * 1000)
            events = ((key_of(n), json.dumps(BEGAN + n * STEP_MS).encode(), now) for n in numbers)
            write(bootstrap_servers, f"{name}.events", events)
            fed += BURST
            until(lambda: len(output.rows[f"{name}.counts"]) >= fed, "the counts", each=poll)  # noqa: B023
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        counts, left = defaultdict(list), {}
        for row in output.rows[f"{name}.counts"]:
            counts[row.key].append(json.loads(row.value or b""))
        assert counts == {f"k{i}".encode(): [*range(1, BURST + 1)] * 3 for i in range(KEYS)}
        for row in output.rows[changelog]:
            left[row.key] = row.value
        tombstones = [row.key for row in output.rows[changelog] if row.value is None]
        assert len(tombstones) >= KEYS, "what had expired did not leave the changelog"
        last = BEGAN + (fed - 1) * STEP_MS
        alive = {key for key, value in left.items() if value is not None}
        written = {key: int.from_bytes(value[:8], "big") for key, value in left.items() if value is not None}
        assert key_of(fed - 1).encode() in alive and all(at <= last for at in written.values())
        assert len(alive) <= TTL_MS // (BURST * STEP_MS) + 4  # of each partition, and what its last commit left over
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()


CARTS_AT = [f"{step}:6" for step in ("commit_transaction:after", "write_changelogs:after", "apply_to_state:before")]
CARTS_AT += ["restore_apply:after:1"]
CARTS, ROUNDS = [f"k{i}" for i in range(8)], 14
HALF = ROUNDS // 2


def cart(turn: int) -> dict[str, int]:
    """What a cart must be after so many rounds: the item of the round before is there still, those before are not."""
    found = {"all": turn + 1, f"r{turn % 3}": 1}
    return found if turn == 0 else {**found, f"r{(turn - 1) % 3}": 1}


@pytest.mark.parametrize("at", CARTS_AT)
def test_entries_that_expire_by_themselves_are_exact_through_a_kill_and_a_restore(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of each entry of a value goes through the changelog: half-way the local state is deleted."""
    name = f"carts-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", at)
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **QUICK)
    partitions = prepare(make_carts(name), settings)
    output = Reader(bootstrap_servers, [f"{name}.carts"])
    instances = [Instance("faults.expiring_service:carts", name, "a", settings, partitions)]
    began = BEGAN // (3 * ROUND_MS) * 3 * ROUND_MS

    def poll() -> None:
        instances[-1].poll()
        output.poll(0.0)

    try:
        if not at.startswith("restore"):
            (tmp_path / "armed").touch()
        for turn in range(ROUNDS):
            if turn == HALF:
                instances[-1].stop()
                shutil.rmtree(tmp_path / "state")
                (tmp_path / "armed").touch()
                instances.append(Instance("faults.expiring_service:carts", name, "a", settings, partitions))
            now, value = round(time.time() * 1000), str(began + turn * ROUND_MS).encode()
            write(bootstrap_servers, f"{name}.events", ((key, value, now) for key in CARTS))
            seen = (turn + 1) * len(CARTS)
            until(lambda: len(output.rows[f"{name}.carts"]) >= seen, f"round {turn}", each=poll)  # noqa: B023
        assert (tmp_path / "struck").exists()
        assert sum(one.restarts for one in instances) == 1
        instances[-1].stop()
        output.poll(1.0)
        found = defaultdict(list)
        for row in output.rows[f"{name}.carts"]:
            found[row.key.decode()].append(json.loads(row.value or b""))
        assert found == {key: [cart(turn) for turn in range(ROUNDS)] for key in CARTS}
    finally:
        output.close()
        instances[-1].kill()
