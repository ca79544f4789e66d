"""Warm copies: a worker follows the state of a task that another runs, and whoever takes it over replays the tail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import AbortRequired, KafkaUnavailable, StateDirectoryError, StateError, TopicError
from kstream.runtime.worker.opening import WARM
from kstream.runtime.worker.replay import fit
from kstream.runtime.worker.warm import IDLE_SECONDS, RETRY_SECONDS
from kstream.state.backend import Backend, Mark
from kstream.state.changelog import Changelog
from kstream.topology import SubTopology
from kstream.types import TopicPartition
from unit.runtime.harness import Counting, Fleet

COUNTING = Counting()
KEYS = [f"k{i}" for i in range(30)]
TASK = "in/0"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One partition. Worker `a` runs it, with state on disk."""
    made = Fleet(COUNTING.app, tmp_path, partitions=1, backend="rocksdb")
    made.start("a")
    made.send(COUNTING.source, KEYS)
    made.settle()
    yield made
    made.close()


def directory(fleet: Fleet, worker: str) -> Path:
    return Path(fleet.settings.state_dir) / fleet.identity(worker).member


def follow(fleet: Fleet, worker: str, *tasks: str) -> None:
    """Until the copies are where their changelogs end."""
    if worker not in fleet.workers:
        fleet.start(worker)
        fleet.settle()
    warm = fleet.workers[worker].warm
    warm.follow(tasks)
    for _ in range(200):
        fleet.step()
        if len(warm) == len(tasks) and not warm.behind():
            return
    raise AssertionError(f"{len(warm)} copies, {warm.behind()} records behind")


def loses_everything(fleet: Fleet, worker: str) -> None:
    """The worker and its disk."""
    fleet.crash(worker)
    fleet.expire(worker)
    member = fleet.identity(worker).member
    if fleet.cluster.transactions.open_transaction(member) is not None:
        fleet.cluster.time_out_transaction(member)
    shutil.rmtree(directory(fleet, worker))


def restored(fleet: Fleet, worker: str) -> int:
    return fleet.workers[worker].restorer.replay.records


def finish(fleet: Fleet) -> None:
    fleet.settle()
    COUNTING.check(fleet)


def test_a_takeover_replays_only_the_tail(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    assert fleet.workers["b"].warm.replay.records == 2 * len(KEYS)
    fleet.send(COUNTING.source, KEYS[:3])
    fleet.settle("a")  # b does not turn: it has not heard of these
    loses_everything(fleet, "a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet, "b") == 2 * 3
    assert not len(fleet.workers["b"].warm)
    assert not (directory(fleet, "b") / WARM / "in" / "0").exists()


def test_one_that_is_not_warm_replays_all_of_it(fleet: Fleet) -> None:
    fleet.start("b")
    fleet.settle()
    loses_everything(fleet, "a")
    finish(fleet)
    assert restored(fleet, "b") == 2 * len(KEYS)


def test_a_copy_follows_what_is_committed_and_nothing_else(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    warm = fleet.workers["b"].warm
    fleet.send(COUNTING.source, KEYS)
    fault = fleet.cluster.faults.plan("producer.commit", AbortRequired("refused"))
    fleet.settle()
    follow(fleet, "b", TASK)
    assert fault.struck
    backend = warm.copies[TASK].backend
    for store in ("n", "seen"):
        content = {key: value for (_, key), value in fleet.changelog(store).items()}
        assert dict(backend.scan(store)) == content and len(content) == len(KEYS)


def test_a_copy_never_answers_for_a_task(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    assert fleet.workers["b"].tasks == {}
    assert not fleet.workers["b"].registry.running


def test_another_worker_of_the_host_is_given_the_copy(fleet: Fleet) -> None:
    """The group gives the task to b, and the copy is c's."""
    fleet.start("b")
    follow(fleet, "c", TASK)
    loses_everything(fleet, "a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert list(fleet.workers["b"].tasks) == [TASK] and restored(fleet, "b") == 0
    assert not len(fleet.workers["c"].warm)
    fleet.step("c", times=20, seconds=1.0)
    assert not len(fleet.workers["c"].warm), "it was begun again before anybody said so"


def test_what_is_not_to_be_followed_any_more_stays_on_disk(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    warm = fleet.workers["b"].warm
    warm.follow([])
    assert not len(warm) and (directory(fleet, "b") / WARM / "in" / "0" / "CURRENT").exists()
    fleet.send(COUNTING.source, KEYS[:2])
    fleet.settle()
    records = warm.replay.records
    follow(fleet, "b", TASK)
    assert warm.replay.records - records == 2 * 2


def test_a_worker_that_ran_the_task_begins_its_copy_with_what_it_has(fleet: Fleet) -> None:
    fleet.leave("a")
    fleet.start("b")
    fleet.settle()
    assert restored(fleet, "b") == 0
    fleet.start("a")  # the lower name: it gets the partition, and the state with it
    fleet.settle()
    shutil.copytree(directory(fleet, "a"), directory(fleet, "b"), dirs_exist_ok=True)
    follow(fleet, "b", TASK)
    assert fleet.workers["b"].warm.replay.records < len(KEYS)


def test_a_damaged_copy_is_made_anew(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    warm = fleet.workers["b"].warm
    warm.follow([])
    for file in (directory(fleet, "b") / WARM / "in" / "0").glob("*.sst"):
        file.write_bytes(b"\0" * file.stat().st_size)
    follow(fleet, "b", TASK)
    assert len(dict(warm.copies[TASK].backend.scan("n"))) == len(KEYS)
    loses_everything(fleet, "a")
    finish(fleet)


@pytest.mark.parametrize("call", ["admin.end_offsets", "admin.describe", "consumer.poll"])
def test_brokers_that_do_not_answer_cost_a_pause(fleet: Fleet, call: str) -> None:
    fleet.start("b")
    fleet.settle()
    warm = fleet.workers["b"].warm
    warm.follow([TASK])
    if call == "consumer.poll":
        fleet.step("b", times=1)
    fault = fleet.cluster.faults.plan(call, KafkaUnavailable("away"), skip=1 if call == "consumer.poll" else 0)
    fleet.workers["b"].warm.step(100, beside=False)
    fleet.workers["b"].warm.step(100, beside=False)
    fleet.workers["b"].warm.step(100, beside=False)
    assert fault.struck and not len(warm)
    fleet.clock.advance(RETRY_SECONDS)
    follow(fleet, "b", TASK)


def test_a_disk_that_is_full_costs_the_copies_not_the_worker(fleet: Fleet) -> None:
    fleet.start("b")
    fleet.settle()
    worker = fleet.workers["b"]

    def full(*_: object) -> None:
        raise StateDirectoryError("the disk is full")

    opened, worker.warm._opening._backends = worker.warm._opening._backends, full  # type: ignore[assignment]
    worker.warm.follow([TASK])
    fleet.step(times=10)
    assert not len(worker.warm)
    worker.warm._opening._backends = opened
    fleet.clock.advance(RETRY_SECONDS)
    follow(fleet, "b", TASK)
    assert not worker.stopping


def test_restores_come_first(fleet: Fleet) -> None:
    follow(fleet, "b", TASK)
    warm = fleet.workers["b"].warm
    records = warm.replay.records
    fleet.send(COUNTING.source, KEYS)
    fleet.settle("a")
    for _ in range(10):
        warm.step(0, beside=False)
    assert warm.replay.records == records
    follow(fleet, "b", TASK)
    assert warm.replay.records > records


def test_state_in_memory_is_not_followed(tmp_path: Path) -> None:
    """Nothing of it would be there for whoever takes the task over."""
    fleet = Fleet(COUNTING.app, tmp_path, partitions=1, backend="memory")
    fleet.start("a")
    fleet.start("b")
    fleet.settle()
    fleet.workers["b"].warm.follow([TASK])
    fleet.step(times=20)
    assert not len(fleet.workers["b"].warm)
    fleet.close()


def test_it_is_looked_at_again_at_once_while_records_come(fleet: Fleet) -> None:
    """Else a copy would follow at a batch in each pause of an idle worker."""
    follow(fleet, "b", TASK)
    warm = fleet.workers["b"].warm
    warm.step(10, beside=False)
    assert warm.patience == IDLE_SECONDS
    fleet.send(COUNTING.source, KEYS)
    fleet.settle("a")
    brought = []
    for _ in range(30):
        records = warm.replay.records
        warm.step(10, beside=False)
        brought.append(warm.replay.records > records)
        assert (warm.patience < IDLE_SECONDS) is brought[-1]
    assert any(brought) and not brought[-1]
    fleet.send(COUNTING.source, KEYS)
    fleet.settle("a")
    warm.step(10, beside=False)
    warm.follow([])
    assert warm.patience == IDLE_SECONDS, "there is nothing to look at"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Fleet]:
    """Two partitions, and a worker that is to follow both."""
    made = Fleet(COUNTING.app, tmp_path, partitions=2, backend="rocksdb")
    made.start("a")
    made.send(COUNTING.source, KEYS)
    made.settle()
    made.start("b")
    made.settle()
    yield made
    made.close()


def test_damage_of_a_copy_that_begins_leaves_those_before_it(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []

    def fitting(marks: Callable[[str], Mark | None], changelog: Changelog, *rest: Any) -> Any:
        begun.append(changelog)
        if len(begun) == 3:  # the second copy: each has two stores
            raise StateError("planned")
        return fit(marks, changelog, *rest)

    monkeypatch.setattr("kstream.runtime.worker.warm.fit", fitting)
    warm = two.workers["b"].warm
    warm.follow(["in/0", "in/1"])
    for _ in range(50):
        warm.step(100, beside=False)
    assert len(begun) > 4 and len(warm) == 2 and warm.replay.records == 2 * len(KEYS)


def test_a_directory_that_cannot_be_made_costs_one_copy(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = two.workers["b"]
    really, refused = worker.warm._opening.open_warm, []

    def opened(part: SubTopology, partition: int, stores: Sequence[str]) -> Backend:
        if partition == 1 and not refused:
            refused.append(partition)
            raise PermissionError(13, "Permission denied")
        return really(part, partition, stores)

    monkeypatch.setattr(worker.warm._opening, "open_warm", opened)
    follow(two, "b", "in/0")
    worker.warm.follow(["in/0", "in/1"])
    two.step("b", times=10)
    assert refused and list(worker.warm.copies) == ["in/0"] and not worker.stopping
    two.clock.advance(RETRY_SECONDS)
    follow(two, "b", "in/0", "in/1")


def test_a_changelog_that_cannot_be_looked_up_costs_its_own_copy(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question about all of them failed each time, and no task of the worker had a copy any more."""
    worker = two.workers["b"]
    follow(two, "b", "in/0")
    admin = worker.warm._admin
    really, asked, broken = admin.end_offsets, [], [True]

    def end_offsets(partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        asked.append({at.partition for at in partitions})
        if broken and any(at.partition == 1 for at in partitions):
            failed: Future[dict[TopicPartition, int]] = Future()
            failed.set_exception(TopicError("it is not there"))
            return failed
        return really(partitions)

    monkeypatch.setattr(admin, "end_offsets", end_offsets)
    warm = worker.warm
    warm.follow(["in/0", "in/1"])
    for _ in range(20):
        warm.step(100, beside=False)
    assert list(warm.copies) == ["in/0"], "the one that was followed stays"
    assert asked == [{1}]
    warm.follow([])
    warm.follow(["in/0", "in/1"])
    two.clock.advance(RETRY_SECONDS)
    for _ in range(20):
        warm.step(100, beside=False)
    assert asked[1:] == [{0, 1}] and not warm.copies
    two.clock.advance(RETRY_SECONDS)
    for _ in range(20):
        warm.step(100, beside=False)
    assert sorted(map(tuple, asked[2:])) == [(0,), (1,)] and list(warm.copies) == ["in/0"]
    broken.clear()
    two.clock.advance(RETRY_SECONDS)
    follow(two, "b", "in/0", "in/1")
    assert not worker.stopping


def test_a_copy_that_cannot_be_followed_costs_none_of_those_begun_with_it(
    two: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = two.workers["b"].warm
    really = warm._opening.open_warm

    def opened(part: SubTopology, partition: int, stores: Sequence[str]) -> Backend:
        if partition == 0:
            raise StateDirectoryError("the disk is full")
        return really(part, partition, stores)

    monkeypatch.setattr(warm._opening, "open_warm", opened)
    warm.follow(["in/0", "in/1"])
    for _ in range(20):
        warm.step(100, beside=False)
    assert list(warm.copies) == ["in/1"] and warm.replay.records
