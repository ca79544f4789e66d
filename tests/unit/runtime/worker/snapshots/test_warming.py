"""A warm copy begins with the task's newest snapshot, and follows the changelog from there."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kstream.runtime.worker.opening import WARM
from kstream.runtime.worker.snapshots.fetching import FetchStage
from kstream.runtime.worker.snapshots.taking import SCRATCH
from kstream.runtime.worker.warm import RETRY_SECONDS, Warm
from unit.runtime.worker.snapshots.support import SECONDS, Snapped, Waiting, rest

Make = Callable[..., Snapped]
TASK = "in/0"
KEYS = [str(number) for number in range(40)]


@pytest.fixture
def one(snapped: Make) -> Snapped:
    """Worker `one` runs the task, a snapshot has 40 keys in each of two stores, and 4 were written again since. Worker
    `two` is idle, as on another machine."""
    made: Snapped = snapped(snapshot_interval=1000.0, partitions=1)
    made.fleet.start("one")
    made.send(*KEYS)
    made.settle()
    made.snapshot_all()
    made.send(*KEYS[:4])
    made.settle()
    made.fleet.start("two")
    made.settle()
    assert not made.fleet.workers["two"].tasks
    return made


def warm_of(one: Snapped) -> Warm:
    return one.fleet.workers["two"].warm


def follow(one: Snapped) -> Warm:
    warm = warm_of(one)
    warm.follow([TASK])
    one.step_until(lambda: len(warm) == 1 and not warm.behind(), "a copy that has followed")
    return warm


def is_lost(one: Snapped) -> None:
    """The machine of worker one."""
    fleet = one.fleet
    member, directory = fleet.identity("one").member, fleet.workers["one"].directory
    fleet.crash("one")
    fleet.expire("one")
    if fleet.cluster.transactions.open_transaction(member) is not None:
        fleet.cluster.time_out_transaction(member)
    shutil.rmtree(directory)


def takes_over(one: Snapped) -> int:
    """Worker two, after the loss of worker one. Returns how many records it replays then."""
    is_lost(one)
    one.send(*KEYS)
    one.settle()
    one.counting.check(one.fleet)
    return one.fleet.workers["two"].restorer.replay.records


def test_a_copy_begins_with_the_newest_snapshot_and_follows_from_there(
    one: Snapped, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    warm = follow(one)
    assert warm.replay.records == 2 * 4, "the tail"
    assert any(line.message.startswith("the warm copy of task in/0: its state comes from") for line in caplog.records)
    one.send(*KEYS[:3])
    one.settle()
    one.step_until(lambda: warm.replay.records == 2 * 7, "what came since")
    assert list((one.fleet.workers["two"].directory / SCRATCH).iterdir()) == []
    assert takes_over(one) == 0
    assert one.fleet.workers["two"].snapshot_counts.restored == 1


def test_one_that_is_there_already_is_not_fetched_for(one: Snapped) -> None:
    warm = follow(one)
    warm.follow([])
    warm.follow([TASK])
    one.step_until(lambda: len(warm) == 1 and not warm.behind(), "the copy again")
    assert one.fleet.workers["two"].snapshot_counts.restored == 1


@pytest.mark.parametrize("damage", ["flipped", "deleted"])
def test_a_snapshot_that_is_damaged_costs_a_replay(one: Snapped, damage: str) -> None:
    for path in one.root.rglob("files/*"):
        if damage == "deleted":
            path.unlink()
        elif path.stat().st_size:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    warm = follow(one)
    assert one.fleet.workers["two"].snapshot_counts.refused["damaged"] == 1
    assert warm.replay.records == 2 * 44
    assert takes_over(one) == 0


def begin(one: Snapped, until: FetchStage) -> Waiting:
    """Until the fetch is there."""
    warm, waiting = warm_of(one), Waiting(one.root)
    assert warm._fetches is not None
    warm._fetches._storage = waiting
    warm.follow([TASK])
    for _ in range(500):
        one.fleet.step(seconds=0.01)
        if warm.fetches_running:
            break
    (fetch,) = warm.fetches_running
    if until is not FetchStage.FETCHING:
        waiting.may.set()
    with fetch._changed:
        assert fetch._changed.wait_for(lambda: fetch.stage is until, SECONDS)
    assert waiting.asked.wait(SECONDS), "from here on it moves no more by itself"
    return waiting


@pytest.mark.parametrize("at", [FetchStage.FETCHING, FetchStage.FETCHED], ids=lambda at: at.name)
def test_the_task_comes_while_its_snapshot_does(one: Snapped, at: FetchStage) -> None:
    """The copy is given up, and the task fetches for itself."""
    waiting = begin(one, at)
    (fetch,) = warm_of(one).fetches_running
    assert warm_of(one).behind() >= 2 * 44, "markers of transactions count"
    is_lost(one)
    one.fleet.step(times=5)
    waiting.may.set()
    one.send(*KEYS)
    one.settle()
    one.counting.check(one.fleet)
    fetch._thread.join(SECONDS)
    assert fetch.done and fetch.manifest is None
    assert not (one.fleet.workers["two"].directory / WARM / "in" / "0").exists()
    assert one.fleet.workers["two"].restorer.replay.records == 2 * 4


def test_the_task_comes_while_its_snapshot_is_opened(one: Snapped, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(one, FetchStage.FETCHED)
    warm = warm_of(one)
    (fetch,) = warm.fetches_running
    really, may = fetch._backend.attach, threading.Event()

    def attach(directory: Path | None) -> None:
        assert may.wait(SECONDS)
        really(directory)

    monkeypatch.setattr(fetch._backend, "attach", attach)
    warm.step(100, beside=False)
    assert fetch.holds
    warm.release(TASK)  # as the opening of the task does
    may.set()
    fetch._thread.join(SECONDS)
    assert fetch.done and fetch.manifest is None
    monkeypatch.undo()
    assert takes_over(one) == 2 * 4


def test_a_storage_that_does_not_answer_costs_a_replay(one: Snapped, caplog: pytest.LogCaptureFixture) -> None:
    waiting = begin(one, FetchStage.FETCHING)
    one.fleet.clock.advance(one.fleet.settings.snapshot_timeout + 1)
    warm = warm_of(one)
    for _ in range(2000):  # the thread that hangs is not waited for; others may link files still, and so move it on
        one.fleet.step(seconds=0.5)
        if warm.replay.records == 2 * 44:
            break
    assert warm.replay.records == 2 * 44
    assert any("does not answer; it begins without" in line.message for line in caplog.records)
    waiting.may.set()
    assert takes_over(one) == 0


def test_brokers_that_fail_after_the_fetch_leave_the_fetched_state(one: Snapped) -> None:
    from kstream.errors import KafkaUnavailable

    begin(one, FetchStage.FETCHED)
    warm = warm_of(one)
    fault = one.fleet.cluster.faults.plan("admin.end_offsets", KafkaUnavailable("away"))
    for _ in range(500):
        rest(one.fleet.workers["two"])
        one.fleet.step("two", seconds=0.01)
        if fault.struck:
            break
    one.fleet.step("two", seconds=0.01)
    assert fault.struck and not len(warm)
    one.fleet.clock.advance(RETRY_SECONDS)
    assert follow(one).replay.records == 2 * 4
    assert one.fleet.workers["two"].snapshot_counts.restored == 1
    assert takes_over(one) == 0
