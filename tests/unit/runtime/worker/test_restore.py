"""Local state is a cache of the changelog: what a restart reads again, and what it refuses.

A test of a regression that other projects had names their issue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import AbortRequired, KafkaUnavailable, StateError, TopicError
from kstream.partitioning import partition_of
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.loop import DELETE_RETENTION, StreamWorker
from kstream.runtime.worker.restraint import Restraint
from kstream.state.rocksdb import RocksBackend
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition
from unit.runtime.harness import Counting, Fleet

COUNTING = Counting()
KEYS = [f"k{i}" for i in range(30)]
CHANGELOGS = ("counting-n-changelog", "counting-seen-changelog")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One worker with state on disk, in one partition; every key is there once."""
    made = Fleet(COUNTING.app, tmp_path, partitions=1, backend="rocksdb")
    made.start("a")
    made.send(COUNTING.source, KEYS)
    made.settle()
    yield made
    made.close()


def finish(fleet: Fleet) -> None:
    fleet.settle()
    COUNTING.check(fleet)


def restored(fleet: Fleet) -> int:
    return fleet.workers["a"].restorer.replay.records


def local(fleet: Fleet) -> Path:
    return Path(fleet.settings.state_dir)


def copy_of_local_state(fleet: Fleet, to: Path) -> None:
    """What a disk holds when the process is killed now: what was flushed."""
    for task in fleet.workers["a"].tasks.values():
        task.backend.flush()
    shutil.copytree(local(fleet), to)


def go_back_to(fleet: Fleet, copy: Path) -> None:
    shutil.rmtree(local(fleet))
    shutil.copytree(copy, local(fleet))


def test_a_start_tells_of_all_tasks_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "kstream.runtime.worker.restore")
    fleet = Fleet(COUNTING.app, tmp_path, partitions=3)
    fleet.start("a")
    fleet.settle()
    told = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    tasks = len(fleet.workers["a"].tasks)
    assert tasks >= 3 and [line.partition(";")[0] for line in told] == [f"restored {tasks} tasks, all of them run"]
    assert (
        sum(record.levelname == "DEBUG" and "runs after" in record.getMessage() for record in caplog.records) == tasks
    )
    fleet.close()


# ---- how much is read again


@pytest.mark.parametrize("end", ["leave", "crash"])
def test_a_restart_with_its_state_reads_nothing_again(fleet: Fleet, end: str) -> None:
    getattr(fleet, end)("a")
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet) == 0


def test_a_crash_replays_only_the_tail_since_the_last_flush(fleet: Fleet, tmp_path_factory: Any) -> None:
    """KAFKA-20753, KIP-892: an unclean crash wipes nothing."""
    copy = tmp_path_factory.mktemp("copies") / "flushed"
    copy_of_local_state(fleet, copy)
    for _ in range(2):
        fleet.send(COUNTING.source, KEYS[:4])
        fleet.settle()
    fleet.send(COUNTING.source, KEYS)
    fleet.step("a")
    fleet.crash("a")
    go_back_to(fleet, copy)
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 2 * 2 * 4  # two commits, two stores, four keys


def test_a_deleted_state_directory_loses_nothing(fleet: Fleet) -> None:
    fleet.crash("a")
    shutil.rmtree(local(fleet))
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 2 * len(KEYS)
    assert fleet.workers["a"].restorer.replay.bytes > 0
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_a_state_in_memory_is_read_anew_each_time(tmp_path: Path) -> None:
    fleet = Fleet(COUNTING.app, tmp_path, partitions=2, poll_batch=3)
    for _ in range(3):
        fleet.start("a")
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
        fleet.crash("a")
    fleet.close()


def test_progress_can_be_watched(tmp_path: Path) -> None:
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, poll_batch=1)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("a")
    worker = fleet.start("a")
    remaining = []
    for _ in range(60):
        fleet.step("a")
        if len(worker.restorer):
            remaining.append(worker.restorer.replay.remaining())
    assert remaining[0] >= 50
    assert sorted(remaining, reverse=True) == remaining
    assert worker.restorer.replay.remaining() == 0
    finish(fleet)
    fleet.close()


def test_a_restore_does_not_stop_the_other_tasks(tmp_path: Path) -> None:
    fleet = Fleet(COUNTING.app, tmp_path, partitions=2, poll_batch=1)
    keys = [[f"k{i}" for i in range(60) if partition_of(b"k%d" % i, 2) == p] for p in range(2)]
    fleet.send(COUNTING.source, keys[1])
    fleet.start("a")
    fleet.settle()
    fleet.crash("a")
    fleet.start("a")
    fleet.step("a", times=3)
    assert fleet.task("a", 0).state is TaskState.RUNNING
    fleet.send(COUNTING.source, keys[0][:2])
    fleet.step("a", times=3)
    assert fleet.task("a", 1).state is TaskState.RESTORING
    assert fleet.outputs(COUNTING.by_dsl).keys() <= set(keys[1])
    fleet.clock.advance(1.0)
    fleet.step("a")
    assert set(keys[0][:2]) <= fleet.outputs(COUNTING.by_dsl).keys()
    assert fleet.task("a", 1).state is TaskState.RESTORING
    finish(fleet)
    fleet.close()


# ---- shapes of changelogs


@pytest.mark.parametrize("again", [1, 4])
def test_a_compacted_changelog_with_gaps(fleet: Fleet, again: int) -> None:
    """Faust #155, #176, #432: recovery hangs on a compacted changelog."""
    for _ in range(again):
        fleet.send(COUNTING.source, KEYS[::3])
        fleet.settle()
    for name in CHANGELOGS:
        fleet.cluster.compact(name)
    fleet.crash("a")
    shutil.rmtree(local(fleet))
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 2 * len(KEYS)
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_a_changelog_of_one_record(tmp_path: Path) -> None:
    """Quix #769: the only record of a changelog is not restored."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1)
    for _ in range(3):
        fleet.start("a")
        fleet.send(COUNTING.source, ["k"])
        finish(fleet)
        fleet.crash("a")
        for name in CHANGELOGS:
            fleet.cluster.compact(name)
    assert fleet.outputs(COUNTING.by_dsl) == {"k": [1, 2, 3]}
    fleet.close()


def test_a_changelog_that_is_empty_though_it_has_an_end(fleet: Fleet) -> None:
    """Faust #597: low == high: recovery hangs."""
    fleet.crash("a")
    shutil.rmtree(local(fleet))
    for name in CHANGELOGS:
        fleet.cluster.truncate(name, 0, fleet.cluster.log(TopicPartition(name, 0)).end)
    fleet.start("a")
    fleet.settle()
    assert restored(fleet) == 0
    fleet.send(COUNTING.source, ["new"])
    fleet.settle()
    assert fleet.outputs(COUNTING.by_dsl)["new"] == [1]


def test_a_position_that_leaves_the_changelog_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The bounds are asked for again, and the store begins anew: a restore goes from replay back to the ends."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, poll_batch=1)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    ends = {name: fleet.cluster.log(TopicPartition(name, 0)).end for name in CHANGELOGS}
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("a")
    shutil.rmtree(local(fleet))
    worker = fleet.start("a")
    while not restored(fleet):
        fleet.step("a")
    assert set(worker.restorer.stages().values()) == {"replaying changelogs"}
    for name, end in ends.items():
        fleet.cluster.truncate(name, 0, end)
    fleet.step("a")
    assert "reading the bounds of the changelogs again" in caplog.text
    assert set(worker.restorer.stages().values()) == {"asking for the changelogs' ends"}
    finish(fleet)
    assert "was deleted from the changelog, which starts at" in caplog.text
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    fleet.close()


def test_a_transaction_pending_at_the_end_of_the_changelog_is_waited_for(fleet: Fleet) -> None:
    """Faust #47. Killed after the changelogs were written and before the offsets were sent: the committed offsets are
    stable at once, and what lies at the changelogs' ends must not be read before it is known what becomes of it."""

    class Killed(BaseException):
        pass

    fleet.send(COUNTING.source, KEYS)
    fleet.cluster.fail_next("send_offsets", Killed())
    with pytest.raises(Killed):
        fleet.step("a", times=3, seconds=0.5)
    fleet.crash("a")
    fleet.expire("a")
    shutil.rmtree(local(fleet))
    fleet.start("b")
    fleet.step("b", times=40)
    assert set(fleet.workers["b"].restorer.stages().values()) == {"replaying changelogs"}
    assert len(fleet.workers["b"].tasks) == 1
    fleet.cluster.time_out_transaction(fleet.identity("a").member)
    finish(fleet)


def test_a_foreign_record_in_a_changelog_stops_its_task(tmp_path: Path) -> None:
    fleet = Fleet(COUNTING.app, tmp_path, partitions=2)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("a")
    fleet.cluster.write(TopicPartition(CHANGELOGS[0], 0), None, b"1", None, None)  # from before it was compacted
    offset = fleet.cluster.log(TopicPartition(CHANGELOGS[0], 0)).end - 1
    fleet.start("a")
    fleet.step(times=40)
    failed, runs = fleet.task("a", 0), fleet.task("a", 1)
    assert (failed.state, runs.state) == (TaskState.FAILED, TaskState.RUNNING)
    assert (
        f"task {failed.name} stopped: the record of changelog {CHANGELOGS[0]}[0] at offset {offset} cannot be used: it "
        "has no key, so another program writes to the changelog"
    ) in str(failed.error)
    fleet.close()


def test_a_changelog_cut_in_the_middle_of_a_restore(tmp_path: Path) -> None:
    """Faust #651; KAFKA-20663: segments deleted in mid-restore. It comes to an end, with all that is still there."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, poll_batch=1)
    fleet.start("a")
    for _ in range(2):
        fleet.send(COUNTING.source, KEYS)
        fleet.settle()
    fleet.crash("a")
    fleet.start("a")
    while restored(fleet) < 10:
        fleet.step("a")
    for name in CHANGELOGS:
        fleet.cluster.truncate(name, 0, len(KEYS) + 1)
    finish(fleet)
    fleet.close()


# ---- local state that cannot be used


@pytest.mark.parametrize("records", [1, 500])
def test_local_state_of_a_changelog_that_was_created_again_is_rebuilt(fleet: Fleet, records: int) -> None:
    """Faust #158: a local offset above the high watermark. And one below it: the new topic may be longer by now."""
    fleet.crash("a")
    fleet.settings = replace(fleet.settings, lost_offsets="continue")
    for name in CHANGELOGS:
        partitions, config = fleet.cluster.topic(name).partitions, dict(fleet.cluster.topic(name).config)
        fleet.cluster.delete_topic(name)
        fleet.cluster.create_topic(name, partitions, config)
        for _ in range(records):
            fleet.cluster.append(name, b"k0", b"7", partition=0)
    fleet.start("a")
    fleet.settle()
    assert fleet.stores("n") == fleet.changelog("n") == {(0, b"k0"): b"7"}


def test_local_state_below_the_start_of_its_changelog_is_rebuilt(fleet: Fleet, tmp_path_factory: Any) -> None:
    """Faust #651; KAFKA-20663: what lies between was deleted, tombstones with it."""
    copy = tmp_path_factory.mktemp("copies") / "old"
    copy_of_local_state(fleet, copy)
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("a")
    go_back_to(fleet, copy)
    for name in CHANGELOGS:
        fleet.cluster.truncate(name, 0, 2 * (len(KEYS) + 1))
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 2 * len(KEYS)


class Notes:
    """An app whose table entries are written by "put" and deleted by "del"."""

    def __init__(self) -> None:
        self.app = kstream.App("notes")
        self.source = self.app.topic("in", key=str, value=str)
        table = self.app.table("notes", key=str, value=str)

        @self.app.agent(self.source)
        def agent(what: str, ctx: kstream.Context[str]) -> None:
            if what == "del":
                del table[ctx.key]
            else:
                table[ctx.key] = what


@pytest.mark.parametrize("days", [1, 30])
def test_local_state_older_than_tombstones_live_is_rebuilt(tmp_path: Path, days: int) -> None:
    """Deleted keys would come back: the tombstone was compacted away before the old copy could read it."""
    notes = Notes()
    fleet = Fleet(notes.app, tmp_path / "state", partitions=1, backend="rocksdb")
    fleet.start("a")
    fleet.send(notes.source, ["x", "y"], "put")
    fleet.settle()
    copy_of_local_state(fleet, tmp_path / "copy")
    fleet.clock.advance(days * 86_400)
    fleet.send(notes.source, ["x"], "del")
    fleet.settle()
    fleet.send(notes.source, ["z"], "put")
    fleet.settle()
    fleet.crash("a")
    go_back_to(fleet, tmp_path / "copy")
    log = fleet.cluster.log(TopicPartition("notes-notes-changelog", 0))
    fleet.cluster.compact("notes-notes-changelog")
    if days * 86_400 > DELETE_RETENTION:
        log._entries = [record for record in log._entries if record.value is not None]  # tombstones and markers go
    fleet.start("a")
    fleet.settle()
    assert {key.decode() for _, key in fleet.stores("notes")} == {"y", "z"}
    assert restored(fleet) == 2
    fleet.close()


def test_old_local_state_of_an_idle_app_is_kept(fleet: Fleet) -> None:
    """Nothing was written since: age alone is no reason to read everything again."""
    fleet.leave("a")
    fleet.clock.advance(100 * 86_400)
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 0


@pytest.mark.parametrize("damage", ["a table's file", "CURRENT", "the manifest"])
def test_a_damaged_directory_is_rebuilt(fleet: Fleet, damage: str) -> None:
    fleet.leave("a")
    pattern = {"a table's file": "*.sst", "CURRENT": "CURRENT", "the manifest": "MANIFEST*"}[damage]
    files = sorted(local(fleet).rglob(pattern))
    assert files
    for file in files:
        file.write_bytes(b"\x00damaged" * 40)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet) == 2 * len(KEYS)


def test_half_of_a_restore_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """KAFKA-16017: a wrong checkpoint after closing in mid-restore. The next start goes on where this one was."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, backend="rocksdb", poll_batch=1)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("a")
    shutil.rmtree(local(fleet))
    fleet.start("a")
    while restored(fleet) < 10:
        fleet.step("a")
    first = restored(fleet)
    fleet.crash("a")
    fleet.start("a")
    finish(fleet)
    assert restored(fleet) == 2 * len(KEYS) - first
    fleet.close()


# ---- committed offsets


def test_a_committed_offset_below_the_low_watermark(fleet: Fleet) -> None:
    """Quix #1114: the app goes on with what is there, and says what was lost."""
    fleet.crash("a")
    fleet.send(COUNTING.source, KEYS)
    at = TopicPartition("in", 0)
    fleet.cluster.truncate("in", 0, fleet.cluster.log(at).end - 5)
    fleet.start("a")
    fleet.settle()
    assert fleet.outputs(COUNTING.by_dsl) == {key: [1, 2] if key in KEYS[-5:] else [1] for key in KEYS}
    assert fleet.committed("in") == {0: fleet.cluster.log(at).end}


@pytest.mark.parametrize("lost", ["stop", "continue"])
def test_a_committed_offset_above_the_end(tmp_path: Path, lost: str) -> None:
    """robinhood/faust #736: after a broker's reset it processes, and must commit too. Nobody knows that the topic is
    another one: the offsets were set by a tool, without its id. So it may as well be what is left of the old one."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, lost_offsets=lost)
    fleet.send(COUNTING.source, KEYS[:30])
    fleet.start("a")
    fleet.settle()
    fleet.crash("a")
    offsets = fleet.cluster.group(fleet.app.name).offsets
    offsets.update({at: (offset, "") for at, (offset, _) in offsets.items()})
    fleet.cluster.delete_topic("in")
    fleet.cluster.create_topic("in", 1)
    fleet.send(COUNTING.source, KEYS[:3])
    fleet.start("a")
    for _ in range(20):
        fleet.step(seconds=0.3)
    assert fleet.committed("in") == {0: 30 if lost == "stop" else 3}
    assert fleet.outputs(COUNTING.by_dsl)["k0"] == ([1] if lost == "stop" else [1, 2])
    fleet.close()


def test_latest_with_a_crash_before_the_first_commit_loses_nothing(tmp_path: Path) -> None:
    """Quix #817: `auto.offset.reset=latest`: where the first run began is where the second one begins."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, auto_offset_reset="latest")
    fleet.send(COUNTING.source, ["before"])
    fleet.start("a")
    fleet.step("a", times=20)
    fleet.send(COUNTING.source, ["k"] * 3)
    fleet.step("a", seconds=0.0)
    fleet.crash("a")
    fleet.send(COUNTING.source, ["k"])
    fleet.start("a")
    fleet.settle()
    assert fleet.outputs(COUNTING.by_dsl) == {"k": [1, 2, 3, 4]}
    fleet.close()


def test_latest_begins_at_the_end_and_earliest_at_the_start(tmp_path: Path) -> None:
    for reset, expected in (("latest", {"k": [1]}), ("earliest", {"k": [1, 2]})):
        fleet = Fleet(COUNTING.app, tmp_path / reset, partitions=1, auto_offset_reset=reset)
        fleet.send(COUNTING.source, ["k"])
        fleet.start("a")
        fleet.settle()
        fleet.send(COUNTING.source, ["k"])
        fleet.settle()
        assert fleet.outputs(COUNTING.by_dsl) == expected
        fleet.close()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("admin.committed", KafkaUnavailable),
        ("admin.committed", AbortRequired),  # unstable: a transaction is pending
        ("admin.end_offsets", KafkaUnavailable),
        ("admin.start_offsets", KafkaUnavailable),
    ],
)
def test_a_question_that_fails_is_asked_again(fleet: Fleet, call: str, error: type[Exception]) -> None:
    """KAFKA-20416: a passing 'no committed offset' must not be taken for the beginning."""
    fleet.crash("a")
    for _ in range(3):
        fleet.cluster.fail_next(call, error("planned"))
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_a_purged_repartition_topic_is_read_on(tmp_path: Path) -> None:
    app = kstream.App("purged")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=int, value=int)
    app.stream(source).group_by(lambda n: n % 3, name="by", key=int).count(name="n").to(out)
    fleet = Fleet(app, tmp_path, partitions=2, flush_interval=0.5)
    at = [TopicPartition("purged-by-repartition", p) for p in range(2)]
    for round_ in range(1, 4):
        fleet.start("a")
        for n in range(6):
            fleet.send(source, [f"k{n}"], n)
        fleet.settle()
        fleet.step("a", times=3, seconds=0.5)
        assert {key: values[-1] for key, values in fleet.outputs(out).items()} == dict.fromkeys(range(3), 2 * round_)
        assert all(fleet.cluster.log(one).start > 0 for one in at if fleet.cluster.log(one).end)
        assert not any(list(fleet.cluster.log(one)) for one in at)
        fleet.crash("a")
    fleet.close()


def test_a_restore_that_a_rebalance_broke_off_is_done_where_offset_0_is_committed(tmp_path: Path) -> None:
    """A savepoint that was restored has state and, of topics that are new, offset 0: where a task that was never
    restored begins, too."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=4)
    for key in KEYS:
        raw = key.encode()
        for changelog in CHANGELOGS:
            fleet.cluster.append(changelog, raw, b"5", partition=partition_of(raw, 4))
    admin = MemoryClients(fleet.cluster).admin()
    admin.set_committed("counting", {TopicPartition("in", number): (0, "") for number in range(4)}).result()
    writer = MemoryClients(fleet.cluster).producer("somebody")
    writer.init_transactions(1.0)
    writer.begin()
    for partition in range(4):  # a restore waits for its end
        writer.produce(CHANGELOGS[0], b"9", b"open", partition)
    first = fleet.start("a")
    fleet.step("a", times=10)
    assert {task.state for task in first.tasks.values()} == {TaskState.RESTORING}
    fleet.start("b")
    fleet.step(times=30)
    assert {task.state for task in first.tasks.values()} == {TaskState.RESTORING}
    writer.abort(1.0)
    writer.close()
    fleet.settle()
    assert fleet.stores("n") == fleet.changelog("n") and len(fleet.stores("n")) == len(KEYS)
    fleet.close()


def test_a_commit_of_another_worker_that_moved_no_offset_is_noticed(tmp_path: Path) -> None:
    """Expiring state and timers commit without a record: equal offsets do not say that nobody had the task."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1)
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.expire("a")
    fleet.start("b")
    fleet.settle("b")
    task = fleet.task("b", 0)
    offsets = fleet.committed("in")
    task.stores["n"].delete(b"k1")
    task.touched = True
    fleet.settle("b")
    assert fleet.committed("in") == offsets
    fleet.leave("b")
    fleet.settle("a")
    assert (0, b"k1") not in fleet.changelog("n")
    assert fleet.stores("n") == fleet.changelog("n")
    fleet.close()


# ---- one task beside another


def test_local_state_that_is_long_in_being_found_open_elsewhere_is_asked_for_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at it takes longer than the pause until the next one, as on a slow disk."""
    fleet.leave("a")
    worker = fleet.start("a")
    opening, asked = worker.restorer._opening, []
    really = opening.open

    def slow(task: Task) -> bool:
        fleet.clock.advance(0.1)
        asked.append(task.name)
        return len(asked) > 3 and really(task)

    monkeypatch.setattr(opening, "open", slow)
    finish(fleet)
    assert len(asked) == 4


def done_together(tmp_path: Path) -> tuple[Fleet, StreamWorker]:
    """Two tasks whose restores are done and were not handed over."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=2)
    fleet.send(COUNTING.source, KEYS)
    fleet.start("a")
    fleet.settle()
    fleet.crash("a")
    worker = fleet.start("a")
    while set(worker.restorer.stages().values()) != {"restored"}:
        worker._poll()
        worker.restorer.step(1000, 0.0, beside=False)
        fleet.clock.advance(0.1)
    return fleet, worker


@pytest.mark.parametrize("error", ["no offsets", "damaged"])
def test_a_task_that_fails_at_the_end_of_its_restore_takes_nothing_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    fleet, worker = done_together(tmp_path)
    first, second = worker.tasks.values()
    offsets = worker.restorer._offsets
    really, failed = offsets.check_state, []

    def check(task: Task, *more: Any) -> None:
        if task is second and not failed:
            failed.append(task.name)
            raise StateError("planned") if error == "damaged" else TaskFailed(task.name, TopicError("planned"))
        really(task, *more)

    monkeypatch.setattr(offsets, "check_state", check)
    fleet.step("a")
    assert failed == [second.name] and first.state is TaskState.RUNNING
    assert worker.tasks[second.name].state is {"damaged": TaskState.RESTORING, "no offsets": TaskState.FAILED}[error]
    fleet.send(COUNTING.source, KEYS)
    fleet.step("a", times=20, seconds=0.3)
    assert first.positions == {at: fleet.cluster.log(at).end for at in first.inputs}, "it is not fed"
    fleet.clock.advance(60)
    finish(fleet)
    fleet.close()


def test_a_bulk_load_opens_the_database_of_a_task_once_and_takes_its_share_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all of its stores: it was opened for each family."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=1, backend="rocksdb")
    fleet.start("a")
    fleet.send(counting.source, [f"k{n}" for n in range(30)])
    fleet.settle()
    fleet.crash("a")
    fleet.expire("a")
    really, opened, spent = RocksBackend._open_all, [], []

    def counted(backend: RocksBackend) -> None:
        opened.append(sorted(backend._bulk.loaded))
        really(backend)

    monkeypatch.setattr(RocksBackend, "_open_all", counted)
    monkeypatch.setattr("kstream.runtime.worker.restore.MUCH", 1)
    monkeypatch.setattr(Restraint, "spent", lambda _, seconds, size, *, beside: spent.append(size))
    shutil.rmtree(Path(fleet.settings.state_dir))
    fleet.start("b")
    fleet.settle()
    counting.check(fleet)
    assert opened == [[], ["n", "seen"], []]
    assert spent.count(0) >= 2
    fleet.close()
