"""A task without local state gets that of the newest snapshot that is whole and fits; else the changelog has it all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import FileMissing, StorageError
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import DELETE_RETENTION
from kstream.runtime.worker.snapshots.counts import SnapshotCounts
from kstream.runtime.worker.snapshots.fetching import FETCH_MOVES, FetchStage
from kstream.runtime.worker.snapshots.taking import SCRATCH
from kstream.state.snapshots.manifest import packed
from kstream.state.snapshots.storage import DirectoryStorage
from unit.runtime.worker.snapshots.support import SECONDS, Snapped, Waiting

Make = Callable[..., Snapped]


def slowly(snapped: Make, backend: str = "rocksdb", **settings: Any) -> Snapped:
    return snapped(backend, snapshot_interval=1000.0, **settings)


def filled(one: Snapped, snapshots: int = 1) -> Snapped:
    """Snapshots of each task, and some more in the changelogs; then the machine is lost."""
    one.fleet.start("one")
    for _ in range(snapshots):
        one.send(*(str(number) for number in range(40)))
        one.settle()
        one.snapshot_all()
    one.send("0", "1", "2", "3")
    one.settle()
    one.fleet.crash("one")
    one.fleet.expire("one")
    one.lose_state()
    return one


def restored(one: Snapped) -> int:
    """Starts it anew. Returns how many changelog records it replayed."""
    worker = one.fleet.start("one")
    one.settle()
    one.counting.check(one.fleet)
    return worker.restorer.replay.records


@pytest.mark.parametrize("backend", ["rocksdb", "file"])
def test_a_lost_machine_costs_the_tail_only(snapped: Make, backend: str) -> None:
    one = filled(slowly(snapped, backend))
    assert restored(one) == 8, "four records in each of two stores"
    worker = one.fleet.workers["one"]
    assert worker.snapshot_counts.restored == 2
    assert worker.snapshot_counts.fetched > 0
    assert list((worker.directory / SCRATCH).iterdir()) == []
    one.send(*(str(number) for number in range(10)), "new")
    one.settle()
    one.snapshot_all()
    one.check()
    assert min(one.newest(partition).number for partition in range(2)) >= 2, "numbers go on"


def test_local_state_is_better_than_a_snapshot(snapped: Make) -> None:
    one = snapped()
    one.fleet.start("one")
    one.send(*"abcdef")
    one.settle()
    one.snapshots(2)
    one.fleet.leave("one")
    assert restored(one) == 0
    assert one.fleet.workers["one"].snapshot_counts.restored == 0


def test_without_snapshots_the_changelog_has_everything(snapped: Make) -> None:
    one = filled(slowly(snapped))
    for path in one.root.rglob("manifests/*"):
        path.unlink()
    assert restored(one) == 88


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_file(kind: Callable[[Path], object]) -> Callable[[Snapped, int], None]:
    def damage(one: Snapped, partition: int) -> None:
        newest, *others = one.manifests(partition)
        shared = {file.at for other in others for file in other.files}
        own = next(file for file in newest.files if file.at not in shared and file.name.endswith(".sst"))
        kind(one.path(partition, own.at))

    return damage


def damage_manifest(kind: Callable[[Path], object]) -> Callable[[Snapped, int], None]:
    return lambda one, partition: kind(one.path(partition, one.newest(partition).name)) and None  # type: ignore[func-returns-value]


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Snapped, int], None]] = {
    "file flipped": damage_file(flip),
    "file truncated": damage_file(half),
    "file deleted": damage_file(Path.unlink),
    "manifest flipped": damage_manifest(flip),
    "manifest truncated": damage_manifest(half),
    "manifest emptied": damage_manifest(lambda path: os.truncate(path, 0)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_that_is_damaged_is_passed_over_for_the_one_before(
    snapped: Make, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = filled(slowly(snapped, partitions=1), snapshots=2)
    newest = one.newest(0)
    DAMAGE[kind](one, 0)
    replayed = restored(one)
    assert replayed == 80 + 8, "what came since the snapshot before"
    counts = one.fleet.workers["one"].snapshot_counts
    assert (counts.restored, counts.refused["damaged"]) == (1, 1)
    (line,) = [record.message for record in caplog.records if "is not used" in record.message]
    assert line.startswith(f"task in/0: snapshot {newest.name.partition('/')[2]} is not used: ")


def test_where_all_are_damaged_the_changelog_has_everything(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped, partitions=1), snapshots=2)
    for path in one.root.rglob("files/*"):
        if path.stat().st_size:
            flip(path)
    assert restored(one) == 2 * 84
    assert one.fleet.workers["one"].snapshot_counts.refused["damaged"] == 2
    (line,) = [record.message for record in caplog.records if "is not used" in record.message]
    assert line.endswith(" (nor are 1 others)")


def damaged_and_restored(one: Snapped, kind: str) -> tuple[str, str]:
    """One snapshot of two is damaged, and the machine lost. Returns the names of both."""
    filled(one, snapshots=2)
    newest, before = one.manifests(0)
    DAMAGE[kind](one, 0)
    restored(one)
    return newest.name, before.name


@pytest.mark.parametrize("kind", ["file flipped", "file truncated", "file deleted"])
def test_the_next_snapshot_takes_the_place_of_one_that_is_damaged(snapped: Make, kind: str) -> None:
    """Also where nothing came since: else the damaged one stayed the newest."""
    one = slowly(snapped, partitions=1, snapshots_retained=2)
    damaged, before = damaged_and_restored(one, kind)
    one.snapshot_all()
    names = [manifest.name for manifest in one.manifests(0)]
    assert damaged not in names and before in names and len(names) == 2
    one.check()
    one.fleet.crash("one")
    one.fleet.expire("one")
    one.lose_state()
    assert restored(one) == 0, "the snapshot has all"
    assert one.fleet.workers["one"].snapshot_counts.refused["damaged"] == 0


def test_a_damaged_file_that_is_needed_again_is_stored_anew(snapped: Make) -> None:
    """A file that is there is not stored again: what was damaged once damaged every snapshot to come."""
    one = filled(slowly(snapped, partitions=1), snapshots=2)
    newest, before = one.manifests(0)
    shared = {file.at for file in before.files} & {file.at for file in newest.files}
    at = next(file.at for file in newest.files if file.at in shared and file.name.endswith(".sst"))
    flip(one.path(0, at))
    one.fleet.start("one")
    one.settle()
    one.fleet.workers["one"].snapshot_counts.damaged["in/0"] |= {at}
    one.snapshot_all()
    one.check()


def test_one_that_rocksdb_does_not_open_is_passed_over(snapped: Make) -> None:
    """Its checksums fit, for it was damaged before they were made."""
    from hashlib import sha256

    import msgspec

    one = filled(slowly(snapped, partitions=1), snapshots=2)
    newest = one.newest(0)
    name = next(file for file in newest.files if file.name.startswith("MANIFEST"))
    data = b"junk" * 10
    digest = sha256(data).hexdigest()
    one.storage.put(f"{one.place(0)}/files/{digest}", [data])
    bad = msgspec.structs.replace(name, size=len(data), sha256=digest, at=f"files/{digest}")
    files = [bad if file is name else file for file in newest.files]
    one.storage.put(f"{one.place(0)}/{newest.name}", [packed(msgspec.structs.replace(newest, files=files))])
    assert restored(one) == 88
    assert one.fleet.workers["one"].snapshot_counts.refused["damaged"] == 1


def test_one_of_another_task_or_app_is_never_opened(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped))
    paths = [next(iter(one.path(partition, "manifests").iterdir())) for partition in (0, 1)]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    assert restored(one) == 88
    assert any("is not used: it is of app 'counting', task in/" in record.message for record in caplog.records)


def test_one_of_a_changelog_that_was_made_anew_is_refused(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped, partitions=1))
    newest = one.newest(0)
    import msgspec

    assert b"changelog" in bytes(newest.stores["n"].about), "the fake gives topics ids"
    stores = {
        name: msgspec.structs.replace(store, about=msgspec.Raw(b'{"v":1,"changelog":"another"}'))
        for name, store in newest.stores.items()
    }
    one.storage.put(f"{one.place(0)}/{newest.name}", [packed(msgspec.structs.replace(newest, stores=stores))])
    assert restored(one) == 88
    assert any("its changelog was deleted and created again" in record.message for record in caplog.records)
    assert one.fleet.workers["one"].snapshot_counts.refused["misfit"] == 1


def test_one_that_is_too_old_is_refused(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped, partitions=1))
    one.fleet.clock.advance(DELETE_RETENTION + 3600)
    assert restored(one) == 88
    assert any("tombstones may have left the changelog" in record.message for record in caplog.records)


def begin_waiting(one: Snapped) -> Waiting:
    """Starts it on a storage that makes it wait; until it asks for a file."""
    worker = one.fleet.start("one")
    waiting = Waiting(one.root)
    assert worker.restorer._fetches is not None
    worker.restorer._fetches._storage = waiting
    for _ in range(500):
        one.fleet.step("one", seconds=0.05)
        if worker.restorer.fetches_running and waiting.asked.wait(SECONDS):
            return waiting
    raise AssertionError("no fetch began")


def test_the_loop_goes_on_while_files_come(snapped: Make) -> None:
    one = filled(slowly(snapped, partitions=1))
    waiting = begin_waiting(one)
    worker = one.fleet.workers["one"]
    one.fleet.step(times=20)
    assert worker.restorer.stages() == {"in/0": "fetching a snapshot: 0 of 0 MB"}
    waiting.may.set()
    one.settle()
    one.check()
    assert worker.restorer.replay.records == 8


def test_a_storage_that_does_not_answer_holds_nobody_up(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped, partitions=1, snapshot_timeout=60.0))
    waiting = begin_waiting(one)
    one.fleet.clock.advance(61)
    for _ in range(200):
        one.fleet.step(seconds=0.1)
        if one.fleet.settled():
            break
    assert one.fleet.task("one", 0).state is TaskState.RUNNING
    assert any("does not answer; it is restored without" in record.message for record in caplog.records)
    waiting.may.set()
    one.counting.check(one.fleet)


def test_a_task_that_leaves_meanwhile_leaves_nothing(snapped: Make) -> None:
    one = filled(slowly(snapped, partitions=1))
    waiting = begin_waiting(one)
    worker = one.fleet.workers["one"]
    (fetch,) = worker.restorer.fetches_running
    one.fleet.crash("one")
    waiting.may.set()
    fetch._thread.join(SECONDS)
    assert fetch.done
    assert fetch.manifest is None
    assert list((worker.directory / SCRATCH).iterdir()) == []
    one.fleet.expire("one")
    assert restored(one) == 8


def test_a_rebalance_in_between_begins_anew(snapped: Make) -> None:
    one = filled(slowly(snapped, partitions=2))
    waiting = begin_waiting(one)
    one.fleet.start("two")
    waiting.may.set()
    one.settle()
    one.counting.check(one.fleet)
    assert sum(worker.restorer.replay.records for worker in one.fleet.workers.values()) == 8


def test_every_stage_has_its_moves() -> None:
    assert FETCH_MOVES.keys() == set(FetchStage)


class Faulty(DirectoryStorage):
    """Raises what it was told to, in turn, instead of giving files of this kind."""

    def __init__(self, root: Path, kind: str, errors: list[StorageError]) -> None:
        super().__init__(root)
        self.kind, self.errors = kind, errors

    def get(self, name: str) -> Iterator[bytes]:
        if self.kind in name and self.errors:
            raise self.errors.pop()
        yield from super().get(name)


def start_on(one: Snapped, storage: DirectoryStorage) -> SnapshotCounts:
    worker = one.fleet.start("one")
    assert worker.restorer._fetches is not None
    worker.restorer._fetches._storage = storage
    return worker.snapshot_counts


@pytest.mark.parametrize("kind", ["/manifests/", "/files/"])
def test_a_storage_that_fails_for_a_moment_is_asked_again(snapped: Make, kind: str) -> None:
    one = filled(slowly(snapped, partitions=1))
    storage = Faulty(one.root, kind, [StorageError("the connection was reset") for _ in range(2)])
    counts = start_on(one, storage)
    one.settle()
    one.counting.check(one.fleet)
    assert not storage.errors and counts.restored == 1 and counts.refused["storage"] == 0
    assert one.fleet.workers["one"].restorer.replay.records == 8


def test_a_storage_that_fails_for_long_is_given_up(snapped: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = filled(slowly(snapped, partitions=1, snapshot_timeout=10.0))
    storage = Faulty(one.root, "/manifests/", [StorageError("access denied") for _ in range(10_000)])
    counts = start_on(one, storage)
    one.settle()
    assert counts.refused["storage"] == 1
    one.counting.check(one.fleet)
    assert counts.restored == 0 and one.fleet.workers["one"].restorer.replay.records == 88
    assert any("restored without" in record.message for record in caplog.records)


def test_one_that_was_deleted_since_it_was_listed_is_passed_over(snapped: Make) -> None:
    one = filled(slowly(snapped, partitions=1), snapshots=2)
    counts = start_on(one, Faulty(one.root, "/manifests/", [FileMissing("it is gone")]))
    one.settle()
    one.counting.check(one.fleet)
    assert (counts.restored, counts.refused["damaged"]) == (1, 1)
    assert one.fleet.workers["one"].restorer.replay.records == 88


def test_few_are_fetched_at_a_time_and_the_others_wait(snapped: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: only the one whose turn it is may be told to stand."""
    monkeypatch.setattr("kstream.runtime.worker.snapshots.fetching.TOGETHER", 1)
    one = filled(slowly(snapped, partitions=2, snapshot_timeout=60.0))
    waiting = begin_waiting(one)
    worker = one.fleet.workers["one"]
    one.fleet.step(times=20)
    assert sorted(worker.restorer.stages().values()) == [
        "fetching a snapshot: 0 of 0 MB", "waiting for other tasks' snapshots",
    ]  # fmt: skip
    told = report_of(worker, StoreSizes(one.fleet.clock.monotonic)).metrics
    stages = {series.labels for series in told if series.name == "task_restoring"}
    assert {stage for _, stage in stages} == {"restoring", "queued"}, "an alert on a restore that hangs knows which"
    fetched = {series.labels for series in told if series.name == "task_restore_fetched_bytes"}
    assert fetched == {(task,) for task, _ in stages}
    waiting.asked.clear()
    one.fleet.clock.advance(61)
    one.fleet.step()
    assert waiting.asked.wait(SECONDS), "the next has its turn, though a thread hangs"
    waiting.may.set()
    one.settle()
    one.counting.check(one.fleet)
    assert worker.snapshot_counts.restored in (1, 2)  # 1, but 2 once on a busy machine: not understood yet
