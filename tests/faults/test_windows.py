"""Workers are killed around the steps of commits with which windows close, behind a repartition whose partitions differ
much in size: each window, session and sliding window of Kafka Streams' has all of its records, and closes once. Read
with plain clients."""

from __future__ import annotations

import time
import uuid
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from faults.windows_service import APART_MS, GAP_MS, KEYS, PARTITIONS, WINDOW_MS, make_app
from kstream.config import Settings
from kstream.partitioning import partition_of
from support.kafka import Reader, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN, SECONDS = 1_700_000_000_000, 20
STEPS = (3, 10, 250)
"""ms from record to record, in each of the partitions."""
AT = ["write_changelogs:after", "commit_transaction:before", "commit_transaction:after", "apply_to_state:before"]


def key_in(partition: int) -> str:
    return next(key for key in map(str, range(100)) if partition_of(key.encode(), PARTITIONS) == partition)


def sessions_of(times: Iterable[int]) -> Counter[tuple[int, int, int]]:
    """How many of these times are in each session: its key, start and end."""
    found: Counter[tuple[int, int, int]] = Counter()
    by_key: defaultdict[int, list[int]] = defaultdict(list)
    for at in sorted(times):
        by_key[at % KEYS].append(at)
    for key, of_key in by_key.items():
        breaks = [at for before, at in pairwise(of_key) if at - before > GAP_MS]
        for start, stop in zip([of_key[0], *breaks], [*breaks, of_key[-1] + 1], strict=True):
            inside = [at for at in of_key if start <= at < stop]
            found[key, inside[0], inside[-1]] = len(inside)
    return found


def near_of(times: Iterable[int]) -> Counter[tuple[int, int]]:
    """How many of these times are in each sliding window: its key and start."""
    by_key: defaultdict[int, list[int]] = defaultdict(list)
    for at in sorted(times):
        by_key[at % KEYS].append(at)
    found: Counter[tuple[int, int]] = Counter()
    for key, of_key in by_key.items():
        for start in {*(at - APART_MS for at in of_key), *(at + 1 for at in of_key)}:
            found[key, start] = bisect_right(of_key, start + APART_MS) - bisect_left(of_key, start)
    return +found  # without those that are empty


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit_with_which_windows_close(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"windows-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", f"{at}:4")
    quick = QUICK | {"max_uncommitted_records": 500, "poll_batch": 200}
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **quick)
    partitions = prepare(make_app(name), settings)
    topics = [f"{name}.{one}" for one in ("counts", "spans", "near")]
    changelogs = [f"{name}-{store}-changelog" for store in ("per-second", "sessions", "sliding")]
    output = Reader(bootstrap_servers, [*topics, *changelogs])
    instance = Instance("faults.windows_service:app", name, "a", settings, partitions)
    end, now = BEGAN + SECONDS * 1000, round(time.time() * 1000)
    times = {partition: range(BEGAN, end, step) for partition, step in enumerate(STEPS)}
    expected = Counter((at % KEYS, at // WINDOW_MS * WINDOW_MS) for of_one in times.values() for at in of_one)
    sessions = sessions_of(at for of_one in times.values() for at in of_one)
    near = near_of(at for of_one in times.values() for at in of_one)
    for partition, of_one in times.items():
        last = end + 10 * WINDOW_MS  # closes what is before
        write(
            bootstrap_servers,
            f"{name}.events",
            ((key_in(partition), str(at).encode(), now) for at in (*of_one, last)),
        )

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    try:
        (tmp_path / "armed").touch()
        until(lambda: len(output.rows[f"{name}.counts"]) >= len(expected), "the windows", each=poll)
        until(lambda: len(output.rows[f"{name}.spans"]) >= len(sessions), "the sessions", each=poll)
        until(lambda: len(output.rows[f"{name}.near"]) >= len(near), "the sliding windows", each=poll)
        assert (tmp_path / "struck").exists()
        instance.stop()
        output.poll(1.0)
        for topic, windows in ((f"{name}.counts", expected), (f"{name}.near", near)):
            found = [
                (int((row.key or b"")[:-8]), int.from_bytes((row.key or b"")[-8:], "big"), int(row.value or b""))
                for row in output.rows[topic]
            ]
            assert Counter({(key, start): count for key, start, count in found}) == windows
            assert len(found) == len(windows)
        for changelog in changelogs:
            left = {row.key: row.value for row in output.rows[changelog]}
            assert sum(value is not None for value in left.values()) <= 1  # the window of the last records
        spans = Counter(
            {
                (int(key[:-16]), int.from_bytes(key[-8:], "big"), int.from_bytes(key[-16:-8], "big")): int(
                    row.value or b""
                )
                for row in output.rows[f"{name}.spans"]
                if (key := row.key or b"")
            }
        )
        assert spans == sessions
        assert len(output.rows[f"{name}.spans"]) == len(sessions)
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()
