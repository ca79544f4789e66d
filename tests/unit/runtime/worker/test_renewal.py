"""Marks of stores that are not written follow their changelogs: a crash replays the tail of what was written, however
long ago the rest was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import KafkaUnavailable
from kstream.runtime.worker.loop import DELETE_RETENTION
from kstream.state.backend import Mark
from kstream.types import TopicPartition
from unit.runtime.harness import Fleet

FLUSH = 30.0


class Hourly:
    """An app with a store that each record writes, and one that only records of value 0 write."""

    def __init__(self) -> None:
        self.app = kstream.App("hourly")
        self.source = self.app.topic("in", key=str, value=int)
        often = self.app.table("often", key=str, value=int, default=0)
        seldom = self.app.table("seldom", key=str, value=int, default=0)

        @self.app.agent(self.source)
        def count(value: int, ctx: kstream.Context[str]) -> None:
            often[ctx.key] += 1
            if not value:
                seldom[ctx.key] += 1


HOURLY = Hourly()
SELDOM = TopicPartition("hourly-seldom-changelog", 0)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(HOURLY.app, tmp_path, partitions=1, backend="rocksdb", flush_interval=FLUSH)
    made.start("a")
    made.send(HOURLY.source, ["k"], value=0)
    made.settle()
    yield made
    made.close()


def mark(fleet: Fleet, store: str = "seldom") -> Mark:
    found = fleet.task("a", 0).backend.mark(store)
    assert found is not None
    return found


def end(fleet: Fleet) -> int:
    return fleet.cluster.log(SELDOM).end


def run(fleet: Fleet, seconds: float) -> None:
    """With a flush each half minute."""
    for _ in range(round(seconds / 10)):
        fleet.step("a", seconds=10.0)
    fleet.settle()


def crash(fleet: Fleet, copies: Any, later: Any = lambda: None) -> int:
    """Kills the worker, whose disk has what was flushed before `later`. Returns what its successor replays."""
    copy = copies.mktemp("copies") / "flushed"
    fleet.task("a", 0).backend.checkpoint(copy)
    later()
    fleet.crash("a")
    (directory,) = Path(fleet.settings.state_dir).glob("*/in/0")
    shutil.rmtree(directory)
    copy.rename(directory)
    fleet.start("a")
    fleet.settle()
    return fleet.workers["a"].restorer.replay.records


@pytest.mark.parametrize("busy", [True, False], ids=["the task works", "the task is idle"])
def test_the_mark_of_a_store_that_is_not_written_comes_to_the_end(
    fleet: Fleet, tmp_path_factory: Any, busy: bool
) -> None:
    assert mark(fleet).offset < end(fleet), "the marker of the transaction lies behind the last record"
    for _ in range(8):
        if busy:
            fleet.send(HOURLY.source, ["k"])
        run(fleet, 20)
    assert mark(fleet).offset == end(fleet)
    fleet.cluster.truncate(SELDOM.topic, 0, end(fleet))  # retention takes all of it away, the marker too
    assert crash(fleet, tmp_path_factory) == 0
    assert {key for (_, key) in fleet.stores("seldom")} == {b"k"}


def test_written_once_an_hour_only_its_tail_is_replayed(fleet: Fleet, tmp_path_factory: Any) -> None:
    for _ in range(3):
        run(fleet, 3600)
        fleet.cluster.truncate(SELDOM.topic, 0, end(fleet))
        fleet.send(HOURLY.source, ["k"], value=0)
        fleet.settle()
    run(fleet, 100)

    def written_again() -> None:
        fleet.send(HOURLY.source, ["k"], value=0)
        fleet.settle()

    assert crash(fleet, tmp_path_factory, written_again) == 2  # one of each store
    assert {int(value) for value in fleet.stores("seldom").values()} == {5}


def test_the_time_of_a_mark_is_renewed_too(fleet: Fleet, tmp_path_factory: Any) -> None:
    """After days without a write, one that was not flushed made the whole store be read again: tombstones might have
    left the changelog since the mark."""
    for _ in range(4):
        fleet.clock.advance(DELETE_RETENTION / 2)
        run(fleet, 100)

    def written_again() -> None:
        for _ in range(3):
            fleet.send(HOURLY.source, ["other"], value=0)
            fleet.settle()

    assert crash(fleet, tmp_path_factory, written_again) == 2 * 3
    assert {key for (_, key) in fleet.stores("seldom")} == {b"k", b"other"}


def test_an_idle_task_is_committed_once_for_it_not_each_time(fleet: Fleet) -> None:
    run(fleet, 200)
    commits = fleet.workers["a"].commits
    run(fleet, 2000)
    assert fleet.workers["a"].commits == commits
    run(fleet, 4000)
    assert fleet.workers["a"].commits == commits + 1


def test_what_a_successor_wrote_is_never_taken_for_the_workers_own(fleet: Fleet) -> None:
    """The worker was expelled and does not know it. Its successor writes to the changelog; an end that is asked for now
    has that in it, and nothing proves the task to be this worker's: the mark stays."""
    run(fleet, 100)
    before = mark(fleet)
    fleet.clock.advance(4000)
    fleet.expire("a")
    fleet.start("b")
    fleet.send(HOURLY.source, ["k"], value=0)
    fleet.settle("b")
    assert end(fleet) > before.offset
    worker = fleet.workers["a"]
    worker._housekeeping.step(worker.registry.all)  # as if its loop turned, and did not poll
    worker._housekeeping.step(worker.registry.all)
    worker.commit_now()
    assert mark(fleet) == before


def test_an_end_that_was_asked_for_before_a_write_is_of_no_use(fleet: Fleet) -> None:
    run(fleet, 100)
    fleet.clock.advance(4000)
    worker = fleet.workers["a"]
    worker._housekeeping.step(worker.registry.all)  # asks; memory answers at once, it is looked at in the next turn
    asked = end(fleet)
    fleet.send(HOURLY.source, ["k"], value=0)
    worker._poll()
    worker._run_tasks()
    worker.commit_now()
    fleet.settle()
    assert mark(fleet).offset == asked + 1
    assert end(fleet) == asked + 2


def test_ends_that_cannot_be_read_are_asked_for_again(fleet: Fleet) -> None:
    fault = fleet.cluster.faults.plan("admin.end_offsets", KafkaUnavailable("away"))
    run(fleet, 300)
    assert fault.struck and mark(fleet).offset == end(fleet)


def test_without_transactions_there_is_nothing_to_renew(tmp_path: Path) -> None:
    fleet = Fleet(
        HOURLY.app,
        tmp_path,
        partitions=1,
        backend="rocksdb",
        flush_interval=FLUSH,
        processing_guarantee="at_least_once",
    )
    fleet.start("a")
    fleet.send(HOURLY.source, ["k"], value=0)
    fleet.settle()
    assert mark(fleet).offset == end(fleet)
    fleet.close()
