"""Warm copies between two real instances: what a takeover replays with them, and without."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kafka import read
from support.observing import Services, running, services
from support.running import until
from support.serving import Served

SECONDS = 120.0


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def gone(served: Served) -> None:
    """Machine and disk: its processes are killed, and its state is deleted."""
    served.supervisor.stop(signal.SIGKILL)
    served.stop()
    shutil.rmtree(served.settings.state_dir)


@pytest.mark.parametrize("warm", [1, pytest.param(0, marks=pytest.mark.more)])
def test_whoever_is_warm_replays_nothing_that_it_has_heard_of(service: Services, warm: int) -> None:
    one = service()
    quick = {"session_timeout": 6.0, "warm": warm}
    first = one.start("first", workers=1, **quick)
    one.feed(3000)
    one.all_done(first, seconds=SECONDS)
    second = one.start("second", workers=2, **quick)
    until(lambda: len(first.status().tasks) + len(second.status().tasks) == 8, "the tasks to be shared", SECONDS)
    running(first, second)
    theirs = len(first.status().tasks)
    assert 0 < theirs < 8
    if warm:
        until(
            lambda: (restore := second.status().restore).warm == theirs and not restore.warm_behind,
            "the second to follow what the first runs",
            SECONDS,
        )
        until(lambda: first.status().restore.warm == 8 - theirs, "the first to follow what the second runs", SECONDS)
        assert second.metrics()("kstream_warm_copies") == theirs
    before = second.metrics()("kstream_restored_records_total")
    gone(first)
    until(lambda: len(second.status().tasks) == 8, "it to have all tasks", SECONDS)
    running(second)
    replayed = second.metrics()("kstream_restored_records_total") - before
    assert replayed == 0 if warm else replayed > 20
    done = second.metrics()("kstream_records_committed_total")
    one.feed(200)  # each of them goes through the repartition too
    until(
        lambda: second.metrics()("kstream_records_committed_total") >= done + 400, "the rest to be processed", SECONDS
    )
    until(lambda: second.status().restore.warm == 0, "it to follow nothing any more", SECONDS)
    rows = read(one.servers, [one.seen])[one.seen]
    counts = Counter(str(row.key, "utf-8") for row in rows)
    assert counts == Counter(f"k{n % 97}" for n in range(one.fed))
    assert {row.key: int(row.value or b"0") for row in rows} == {key.encode(): count for key, count in counts.items()}
