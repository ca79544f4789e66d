"""A topic becomes quiet: its last windows close with the clock, once, though the worker is killed around the commit by
which they do. What comes afterwards is late, and goes to its topic. Read with plain clients."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from faults.quiet_service import WINDOW_MS, make_app
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN = 1_700_000_000_000
AT = ["flush_operators:after", "commit_transaction:before", "commit_transaction:after", "apply_to_state:before"]


@pytest.mark.parametrize("at", AT)
def test_killed_around_the_commit_with_which_the_clock_closes_windows(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"quiet-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", f"{at}:1")
    settings = Settings(
        bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", idle_timeout=4.0, **QUICK
    )
    partitions = prepare(make_app(name), settings)
    output = Reader(bootstrap_servers, [f"{name}.counts", f"{name}.late", f"{name}-per-second-changelog"])
    instance = Instance("faults.quiet_service:app", name, "a", settings, partitions)
    now = round(time.time() * 1000)
    times = [*range(BEGAN, BEGAN + 3950, 10)]
    records = [(str(key), str(at).encode(), now) for at in times for key in range(4)]
    expected = Counter((str(key), at // WINDOW_MS * WINDOW_MS) for at in times for key in range(4))
    write(bootstrap_servers, f"{name}.events", (one for one in records for _ in range(2)))

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    counts, late = output.rows[f"{name}.counts"], output.rows[f"{name}.late"]
    try:
        until(lambda: len(counts) >= len(expected) - 4, "the windows that records close", each=poll)
        (tmp_path / "armed").touch()
        until(lambda: len(counts) >= len(expected), "the windows that the clock closes", each=poll)
        write(bootstrap_servers, f"{name}.events", [("0", str(BEGAN + 3951).encode(), now)])
        until(lambda: len(late) >= 1, "the late record", each=poll)
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        found = [
            ((row.key or b"")[:-8].decode(), int.from_bytes((row.key or b"")[-8:], "big"), int(row.value or b""))
            for row in counts
        ]
        assert Counter({(key, start): count for key, start, count in found}) == expected
        assert len(found) == len(expected)
        assert [(row.key, row.value) for row in late] == [(b"0", str(BEGAN + 3951).encode())]
        left = {row.key: row.value for row in output.rows[f"{name}-per-second-changelog"]}
        assert not any(value is not None for value in left.values())
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()
