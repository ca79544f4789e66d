"""Snapshots are taken of what is committed, when they are due, and their failures stay theirs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from kstream.errors import SnapshotsFailed, StateError, StorageError, TopicError
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.snapshots.making import SNAPSHOT_MOVES, SnapshotStage
from kstream.runtime.worker.snapshots.taking import SCRATCH, Snapshots
from kstream.state.backend import Backend, Mark
from kstream.state.memory import MemoryBackend
from kstream.state.rocksdb import RocksBackend
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import read_snapshot
from unit.runtime.harness import ROCKS
from unit.runtime.worker.snapshots.support import SECONDS, Snapped

Make = Callable[..., Snapped]


def opened(one: Snapped, partition: int, directory: Path) -> Backend:
    manifest = one.newest(partition)
    read_snapshot(one.storage, one.place(partition), manifest, directory)
    if manifest.backend == "rocksdb":
        return RocksBackend(directory, list(manifest.stores), ROCKS)
    backend = MemoryBackend(list(manifest.stores))
    backend.attach(directory)
    return backend


@pytest.mark.parametrize("backend", ["rocksdb", "file"])
def test_a_snapshot_is_the_committed_state_with_its_marks(snapped: Make, tmp_path: Path, backend: str) -> None:
    one = snapped(backend)
    one.fleet.start("one")
    one.send(*"abcdefgh", *"abc")
    one.settle()
    one.snapshots(2)
    for partition in range(2):
        task = one.fleet.task("one", partition)
        held = opened(one, partition, tmp_path / f"opened-{partition}")
        for store in ("n", "seen"):
            assert dict(held.scan(store)) == dict(task.backend.scan(store))
            assert held.mark(store) == task.backend.mark(store) == one.newest(partition).stores[store].mark
        assert {each.topic: each.offset for each in one.newest(partition).inputs} == {
            at.topic: offset for at, offset in task.committed.items()
        }
        held.close()
    one.check()
    assert list((one.fleet.workers["one"].directory / SCRATCH).iterdir()) == [], "links are cleaned up"


def test_memory_alone_has_no_snapshots(snapped: Make) -> None:
    one = snapped("memory")
    one.fleet.start("one")
    one.send("a", "b")
    one.settle()
    one.fleet.step(times=100)
    assert not one.root.exists()


def test_what_did_not_change_is_not_stored_again(snapped: Make) -> None:
    one = snapped()
    worker = one.fleet.start("one")
    one.send(*"abcdefgh")
    one.settle()
    one.snapshots(2)
    before = {entry.name for entry in one.storage.list("")}
    one.step_until(lambda: worker.snapshot_counts.unchanged >= 6, "snapshots that are left out")
    assert {entry.name for entry in one.storage.list("")} == before
    assert all(one.fleet.clock.time() - at < 3 for at in worker.snapshot_counts.last_success.values())
    one.send("a")
    one.settle()
    one.snapshots(1)
    one.check()


def test_a_task_that_has_had_none_does_not_look_fresh(snapped: Make) -> None:
    one = snapped(partitions=1, snapshot_interval=10.0)
    counts = one.fleet.start("one").snapshot_counts
    one.send("a", "b")
    one.settle()
    one.fleet.step()
    assert counts.last_success == {"in/0": 0.0}
    one.snapshots(1)
    assert one.fleet.clock.time() - counts.last_success["in/0"] < 10


def test_the_newest_are_retained(snapped: Make) -> None:
    one = snapped(partitions=1, snapshots_retained=2)
    one.fleet.start("one")
    for _ in range(4):
        one.send("a", "b")
        one.settle()
        one.snapshots(1)
    newest, before = (manifest.number for manifest in one.manifests(0))
    assert (newest, before) == (newest, newest - 1)
    assert newest >= 4
    one.check()


def test_pauses_and_how_many_at_once(snapped: Make) -> None:
    one = snapped(partitions=3, snapshot_interval=1.0, snapshot_min_pause=5.0)
    worker = one.fleet.start("one")
    assert worker.snapshots is not None
    begun: dict[str, list[float]] = {}
    most = 0
    for number in range(300):
        one.send(str(number % 7))
        known = list(worker.snapshots.running)
        one.fleet.step(seconds=0.1)
        most = max(most, len(worker.snapshots.running))
        for snapshot in worker.snapshots.running:
            if snapshot not in known:
                begun.setdefault(snapshot.task.name, []).append(snapshot.began)
            assert snapshot.rest(SECONDS)
    assert most == 1
    assert len(begun) == 3
    for times in begun.values():
        assert len(times) >= 3
        assert all(after - before >= 5.0 for before, after in pairwise(times))


class Failing(DirectoryStorage):
    """Refuses manifests while it is told to."""

    fails = True

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        if self.fails and "/manifests/" in name:
            raise StorageError("the bucket is gone")
        super().put(name, chunks)


def replace_storage(one: Snapped, storage: DirectoryStorage) -> None:
    worker = one.fleet.workers["one"]
    assert isinstance(worker.snapshots, Snapshots)
    worker.snapshots._storage = storage


def test_failures_are_counted_and_told_until_there_are_too_many(
    snapped: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = snapped(partitions=1, snapshot_tolerable_failures=2, restart_initial=1.0)
    worker = one.fleet.start("one")
    failing = Failing(one.root)
    replace_storage(one, failing)
    one.send("a")
    one.settle()
    failures = worker.snapshot_counts.failures
    one.step_until(lambda: failures["storage"] == 2, "two failures")
    assert one.fleet.task("one", 0).state is TaskState.RUNNING
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "task in/0: a snapshot failed (2 in a row, 2 are tolerated): the bucket is gone" in lines
    one.step_until(lambda: one.fleet.task("one", 0).state is TaskState.FAILED, "too many failures")
    assert failures["storage"] == 3
    error = one.fleet.task("one", 0).error
    assert str(error) == (
        "task in/0: 3 snapshots in a row failed, more than snapshot_tolerable_failures=2; the last: the bucket is gone"
    )
    told = [status.error for status in worker.snapshot_counts.last]
    assert told == ["the bucket is gone"] * 3
    failing.fails = False
    one.step_until(lambda: one.fleet.task("one", 0).state is TaskState.RUNNING, "another attempt")
    one.send("a", "b")
    one.settle()
    one.snapshots(1)
    one.check()


def test_a_success_between_failures_starts_the_count_anew(snapped: Make) -> None:
    one = snapped(partitions=1, snapshot_tolerable_failures=1)
    worker = one.fleet.start("one")
    failing = Failing(one.root)
    replace_storage(one, failing)
    for times in range(1, 4):
        failing.fails = True
        one.send("a")
        one.step_until(lambda: worker.snapshot_counts.failures["storage"] == times, "a failure")  # noqa: B023
        failing.fails = False
        one.snapshots(1)
    assert one.fleet.task("one", 0).state is TaskState.RUNNING
    one.check()


class Slow(DirectoryStorage):
    """Stores nothing before it may."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may, self.begun = threading.Event(), threading.Event()

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        self.begun.set()
        assert self.may.wait(SECONDS)
        super().put(name, chunks)


def begin_slow(one: Snapped) -> Slow:
    slow = Slow(one.root)
    replace_storage(one, slow)
    for _ in range(500):
        one.fleet.step(seconds=0.05)
        for snapshot in one.fleet.workers["one"].snapshots.running:  # type: ignore[union-attr]
            if snapshot.stage is SnapshotStage.FLUSHING:
                assert snapshot.rest(SECONDS)
            elif not snapshot.wants_links and slow.begun.wait(SECONDS):  # it has them: its thread is on its way
                return slow
    raise AssertionError("no snapshot began")


def test_one_that_takes_too_long_is_given_up(snapped: Make) -> None:
    one = snapped(partitions=1, snapshot_timeout=10.0, snapshot_interval=5.0)
    worker = one.fleet.start("one")
    one.send("a")
    one.settle()
    slow = begin_slow(one)
    one.fleet.clock.advance(11)
    slow.may.set()
    one.step_until(lambda: worker.snapshot_counts.failures["timeout"] == 1, "a failure")
    assert one.manifests(0) == []
    one.snapshots(1)
    one.check()


def test_tasks_go_on_while_one_is_stored(snapped: Make) -> None:
    one = snapped(partitions=1)
    one.fleet.start("one")
    one.send("a")
    slow = begin_slow(one)
    for _ in range(20):
        one.send("a", "b")
        one.fleet.step(seconds=0.3)
    one.fleet.settle()
    slow.may.set()
    one.snapshots(2)
    one.check()


def test_a_stop_abandons_what_is_under_way(snapped: Make) -> None:
    one = snapped(partitions=1)
    worker = one.fleet.start("one")
    one.send("a")
    slow = begin_slow(one)
    assert worker.snapshots is not None
    (snapshot,) = worker.snapshots.running
    timer = threading.Timer(0.2, slow.may.set)
    timer.start()
    one.fleet.leave("one")
    assert snapshot.join(SECONDS)
    assert snapshot.stage is SnapshotStage.ABANDONED
    assert one.manifests(0) == []
    assert list((worker.directory / SCRATCH).iterdir()) == []
    timer.join()


def test_a_task_that_moves_away_takes_nothing_with_it(snapped: Make) -> None:
    one = snapped(partitions=2, snapshot_max_concurrent=2)
    worker = one.fleet.start("one")
    one.send(*"abcdef")
    one.settle()
    one.snapshots(2)
    one.fleet.start("two")
    one.send(*"abcdef")
    one.settle()
    assert len(worker.tasks) == 1
    one.step_until(lambda: len(worker.snapshot_counts.last_success) == 1, "one task left")
    one.send(*"abcdef")
    one.settle()
    one.snapshots(1, "two")
    one.check()


def test_what_a_killed_predecessor_left_is_deleted(snapped: Make) -> None:
    one = snapped()
    left = one.state / "counting-default-one-0" / SCRATCH / "0123456789ab"
    left.mkdir(parents=True)
    (left / "000001.sst").touch()
    worker = one.fleet.start("one")
    assert worker.directory == left.parent.parent
    assert not left.exists()


def test_every_stage_has_its_moves() -> None:
    assert SNAPSHOT_MOVES.keys() == set(SnapshotStage)


class Refusing(Slow):
    """Says that it cannot, once it may."""

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        super().put(name, chunks)
        raise StorageError("the bucket is gone")


def begin_storing(one: Snapped, storage: Slow, tasks: int = 1) -> None:
    """Until snapshots of so many tasks are at their first file."""
    worker = one.fleet.workers["one"]
    replace_storage(one, storage)
    assert worker.snapshots is not None
    for _ in range(500):
        one.fleet.step(seconds=0.05)
        for snapshot in worker.snapshots.running:
            if snapshot.stage is SnapshotStage.FLUSHING:
                assert snapshot.rest(SECONDS)
        stages = [snapshot.stage for snapshot in worker.snapshots.running]
        if stages == [SnapshotStage.STORING] * tasks and storage.begun.wait(SECONDS):
            return
        for snapshot in worker.snapshots.running:
            if snapshot._told.is_set():  # it has its links
                with snapshot._moved:
                    assert snapshot._moved.wait_for(lambda: snapshot.stage is not SnapshotStage.FLUSHED, SECONDS)  # noqa: B023
    raise AssertionError("no snapshot began")


@pytest.mark.parametrize("state", [TaskState.SUSPENDED, TaskState.FAILED])
def test_one_of_a_task_that_does_not_run_is_abandoned_and_no_failure(snapped: Make, state: TaskState) -> None:
    one = snapped(partitions=1, snapshot_tolerable_failures=0, restart_initial=1.0)
    worker = one.fleet.start("one")
    one.send("a")
    one.settle()
    storage = Refusing(one.root)
    begin_storing(one, storage)
    assert worker.snapshots is not None
    (snapshot,) = worker.snapshots.running
    task = one.fleet.task("one", 0)
    if state is TaskState.SUSPENDED:
        worker._recovery.suspend()
    else:
        worker._recovery._fail(task, TopicError("planned"))
    storage.may.set()
    assert snapshot.join(SECONDS)
    one.fleet.step("one")
    assert task.state is state and worker.snapshots.running == []
    assert sum(worker.snapshot_counts.failures.values()) == 0 and not worker.snapshot_counts.last


def test_a_task_that_does_not_run_is_not_failed_by_its_snapshots(snapped: Make) -> None:
    one = snapped(partitions=1)
    worker = one.fleet.start("one")
    one.settle()
    worker._recovery.suspend()

    def fails() -> None:
        raise SnapshotsFailed("in/0", "planned")

    worker._recovery.handling(fails)
    assert one.fleet.task("one", 0).state is TaskState.SUSPENDED


def test_of_two_that_fail_in_one_turn_both_are_told(snapped: Make) -> None:
    one = snapped(
        partitions=2, snapshot_tolerable_failures=0, snapshot_max_concurrent=2, snapshot_interval=10.0,
        restart_initial=30.0,
    )  # fmt: skip
    worker = one.fleet.start("one")
    one.send(*"abcdef")
    one.settle()
    one.fleet.clock.advance(20)
    storage = Refusing(one.root)
    begin_storing(one, storage, tasks=2)
    assert worker.snapshots is not None
    storage.may.set()
    for snapshot in worker.snapshots.running:
        assert snapshot.join(SECONDS)
    one.fleet.step("one", times=2)
    assert {task.state for task in worker.tasks.values()} == {TaskState.FAILED}
    assert worker.snapshot_counts.failures["storage"] == 2


def test_numbers_go_on_after_those_of_another_owner(snapped: Make) -> None:
    """The task was lost, and came back to a worker that had not closed it."""
    one = snapped(partitions=1)
    one.fleet.start("one")
    one.send("a")
    one.settle()
    one.snapshots(1)
    one.fleet.expire("one")
    two = one.fleet.start("two")
    for taken in range(3):
        one.send("a")
        one.step_until(lambda: one.fleet.settled("two"), "everything processed", "two")
        one.step_until(lambda taken=taken: two.snapshot_counts.taken > taken, "a snapshot", "two")
    number = one.newest(0).number
    assert number >= 4
    one.fleet.leave("two")
    one.send("a")
    one.settle()
    one.snapshots(1)
    assert one.newest(0).number > number
    one.check()


def test_damage_that_is_found_when_one_is_due_is_the_tasks(snapped: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = snapped(partitions=1)
    worker = one.fleet.start("one")
    one.send("a")
    one.settle()
    task = one.fleet.task("one", 0)

    def damaged(store: str) -> Mark | None:
        raise StateError("planned")

    monkeypatch.setattr(task.backend, "mark", damaged)
    one.step_until(lambda: one.fleet.task("one", 0) is not task, "rebuilt")
    one.settle()
    one.snapshots(1)
    one.check()
    assert not worker.stopping
