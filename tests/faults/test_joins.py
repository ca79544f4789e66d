"""Workers are killed around the steps of commits while a stream is joined with a table: each record is joined once,
with the row that its key had, and the table is that of the topic behind it. Read with plain clients."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from faults.joining_service import make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

ROUNDS, KEYS = 8, [f"k{n}" for n in range(9)]
AT = [
    "write_changelogs:after:5",
    "commit_transaction:before:5",
    pytest.param("commit_transaction:after:5", marks=pytest.mark.slow),
    pytest.param("apply_to_state:before:5", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, chance = f"joining-{uuid.uuid4().hex[:8]}", random.Random(at)
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", at)
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **QUICK)
    partitions = prepare(make_app(name), settings)
    changes, inner, left, changelog = topics = [
        f"{name}.changes", f"{name}.inner", f"{name}.left", f"{name}-rates-changelog",
    ]  # fmt: skip
    output = Reader(bootstrap_servers, topics)
    instance = Instance("faults.joining_service:app", name, "a", settings, partitions)
    rates: dict[str, int] = {}
    changed: list[tuple[str, int | None]] = []
    found: Counter[tuple[str, int, int]] = Counter()
    moved: Counter[tuple[str, int, int]] = Counter()
    orders = 0

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    def feed(topic: str, rows: list[tuple[str, int | None]]) -> None:
        now = round(time.time() * 1000)
        encoded = [(key, None if value is None else b"%d" % value, now) for key, value in rows]
        write(bootstrap_servers, f"{name}.{topic}", encoded)

    try:
        (tmp_path / "armed").touch()
        for _ in range(ROUNDS):
            new = [(chance.choice(KEYS), chance.choice([None, *range(1, 50)])) for _ in range(12)]
            feed("rates", new)
            changed += new
            for key, value in new:
                if value is None:
                    rates.pop(key, None)
                else:
                    rates[key] = value
            until(lambda: len(output.rows[changes]) >= len(changed), "the table's changes", each=poll)  # noqa: B023
            numbers = range(orders, orders + 30)
            pairs = [(chance.choice(KEYS), number) for number in numbers]
            feed("orders", list(pairs))
            orders += len(pairs)
            found.update((key, number, rates[key]) for key, number in pairs if key in rates)
            moved.update((f"k{number % 7}", number, rates.get(f"k{number % 7}", -1)) for number in numbers)
            until(
                lambda: len(output.rows[inner]) >= found.total() and len(output.rows[left]) >= orders,  # noqa: B023
                "the orders of a round to be joined",
                each=poll,
            )
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        assert instance.restarts == 1
        for topic, wanted in ((inner, found), (left, moved)):
            rows = [(row.key.decode(), *json.loads(row.value or b"")) for row in output.rows[topic]]
            assert Counter(rows) == wanted
        for key in KEYS:
            passed = [row.value and int(row.value) for row in output.rows[changes] if row.key == key.encode()]
            assert passed == [value for changed_key, value in changed if changed_key == key]
        kept = {row.key.decode(): row.value for row in output.rows[changelog]}
        assert {key: int(value) for key, value in kept.items() if value is not None} == rates
    finally:
        output.close()
        instance.kill()
