"""A worker's part in a savepoint, with real workers on a Kafka in memory."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import StateError
from kstream.runtime.cluster.control import Answer, Request
from kstream.runtime.task.states import TaskState, move
from kstream.runtime.worker.loop import StreamWorker
from kstream.runtime.worker.states import PART_MOVES, PartState
from kstream.state.snapshots.manifest import stored_manifest
from kstream.state.snapshots.storage import DirectoryStorage, open_storage
from kstream.types import TopicPartition
from support.running import until
from unit.runtime.harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(12)]


@pytest.fixture(params=["memory", "rocksdb"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fleet, Counting]]:
    counting = Counting()
    made = Fleet(counting.app, tmp_path / "state", backend=request.param)
    yield made, counting
    made.close()


def request(phase: str, place: Path, *, id: str = "1", timeout: float = 60.0) -> Request:
    return Request(id, "first", phase, timeout, str(place))  # type: ignore[arg-type]


def answers(worker: StreamWorker, fleet: Fleet, phase: str) -> Answer:
    """The first answer of that phase."""
    found: list[Answer] = []

    def look() -> bool:
        fleet.step()
        found.extend(worker.savepoint.answers())
        return any(one.phase == phase for one in found)

    until(look, f"an answer {phase}")
    return next(one for one in found if one.phase == phase)


def hold(fleet: Fleet, place: Path) -> StreamWorker:
    """One worker that has counted each key once and is asked to hold with more to come."""
    worker = fleet.start("a")
    worker.savepoint.ask(request("hold", place))  # no partitions yet
    (refused,) = worker.savepoint.answers()
    assert refused.phase == "refused" and "shared out" in refused.why
    fleet.settle()
    worker.savepoint.ask(request("hold", place))
    return worker


@pytest.mark.parametrize("now", list(PartState), ids=lambda state: state.value)
@pytest.mark.parametrize("to", list(PartState), ids=lambda state: state.value)
def test_only_these_moves(now: PartState, to: PartState) -> None:
    legal = {
        ("idle", "holding"), ("holding", "capturing"), ("holding", "idle"),
        ("capturing", "captured"), ("capturing", "idle"), ("captured", "idle"),
    }  # fmt: skip
    if (now.value, to.value) in legal:
        move("it", now, to, PART_MOVES)
    else:
        with pytest.raises(RuntimeError):
            move("it", now, to, PART_MOVES)


def test_held_inputs_are_not_read_and_go_on_where_they_were(fleet: tuple[Fleet, Counting], tmp_path: Path) -> None:
    workers, counting = fleet
    workers.send(counting.source, KEYS)
    worker = hold(workers, tmp_path / "saved")
    workers.send(counting.source, KEYS * 3)
    before = workers.committed("in")
    workers.step(times=30)
    assert workers.committed("in") == before
    answer = answers(worker, workers, "holding")
    assert all(part.quiet for part in answer.tasks.values()) and len(answer.tasks) == 4

    worker.savepoint.ask(request("resume", tmp_path))
    workers.settle()
    counting.check(workers)


def test_what_is_buffered_when_the_inputs_are_held_is_read_again(fleet: tuple[Fleet, Counting], tmp_path: Path) -> None:
    workers, counting = fleet
    worker = workers.start("a")
    workers.settle()
    worker.paused = True
    workers.send(counting.source, KEYS * 5)
    workers.step(times=5)
    assert any(task.buffered for task in worker.tasks.values())
    worker.paused = False
    worker.savepoint.ask(request("hold", tmp_path))
    assert not any(task.buffered for task in worker.tasks.values())
    workers.step(times=10)
    assert workers.outputs(counting.by_dsl) == {}
    worker.savepoint.ask(request("abort", tmp_path))
    workers.settle()
    counting.check(workers)


def test_the_copy_is_the_state_of_the_offsets_it_names(fleet: tuple[Fleet, Counting], tmp_path: Path) -> None:
    workers, counting = fleet
    workers.send(counting.source, KEYS * 2)
    worker = hold(workers, tmp_path / "saved")
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", tmp_path / "saved"))
    captured = answers(worker, workers, "captured")
    workers.send(counting.source, KEYS)
    workers.step(times=20)
    assert sum(map(sum, workers.outputs(counting.by_dsl).values())) == len(KEYS) * 3  # 1 + 2 each: nothing more
    worker.savepoint.ask(request("resume", tmp_path))
    stored = answers(worker, workers, "stored")
    workers.settle()
    counting.check(workers)

    storage = open_storage(str(tmp_path / "saved"))
    for name, part in stored.tasks.items():
        assert part.offsets == captured.tasks[name].offsets
        assert part.stored is not None
        manifest = stored_manifest(storage, part.stored)
        assert manifest.task == name and manifest.app == "counting"
        (offset,) = part.offsets
        assert [(one.topic, one.offset) for one in manifest.inputs] == [("in", offset.committed)]
    assert not list((tmp_path / "state").glob("*/@savepoint/*")), "the copies are deleted once they are stored"


@pytest.mark.parametrize("phase", ["holding", "captured"])
def test_when_the_time_is_over_the_tasks_go_on_by_themselves(
    fleet: tuple[Fleet, Counting], tmp_path: Path, phase: str
) -> None:
    workers, counting = fleet
    worker = hold(workers, tmp_path)
    workers.send(counting.source, KEYS)
    answers(worker, workers, "holding")
    if phase == "captured":
        worker.savepoint.ask(request("capture", tmp_path))
        answers(worker, workers, "captured")
    workers.clock.advance(61)
    assert answers(worker, workers, "refused").why == "the time is over"
    workers.settle()
    counting.check(workers)


@pytest.mark.parametrize("phase", ["holding", "captured"])
def test_a_rebalance_ends_it(fleet: tuple[Fleet, Counting], tmp_path: Path, phase: str) -> None:
    workers, counting = fleet
    worker = hold(workers, tmp_path)
    workers.send(counting.source, KEYS)
    answers(worker, workers, "holding")
    if phase == "captured":
        worker.savepoint.ask(request("capture", tmp_path))
        answers(worker, workers, "captured")
    workers.start("b")
    assert "partitions were shared out anew" in answers(worker, workers, "refused").why
    workers.settle()
    counting.check(workers)


def test_a_task_that_fails_ends_it(tmp_path: Path) -> None:
    app = kstream.App("failing")
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)

    @app.agent(source, to=out)
    def fails(value: int) -> int:
        return 1 // value

    workers = Fleet(app, tmp_path / "state")
    worker = workers.start("a")
    workers.settle()
    workers.send(source, KEYS, value=0)
    until(lambda: workers.step() or any(t.state is TaskState.FAILED for t in worker.tasks.values()), "a failed task")
    worker.savepoint.ask(request("hold", tmp_path))
    (answer,) = worker.savepoint.answers()
    assert answer.phase == "refused" and "is failed" in answer.why
    assert not worker.savepoint.active
    workers.close()


def test_a_second_savepoint_is_refused_while_one_is_made_and_old_words_are_not_heeded(
    fleet: tuple[Fleet, Counting], tmp_path: Path
) -> None:
    workers, _ = fleet
    worker = hold(workers, tmp_path)
    worker.savepoint.ask(request("hold", tmp_path, id="2"))
    assert "savepoint first is being made" in answers(worker, workers, "refused").why
    worker.savepoint.ask(request("resume", tmp_path, id="2"))
    assert worker.savepoint.active
    worker.savepoint.ask(request("resume", tmp_path))
    assert not worker.savepoint.active
    worker.savepoint.ask(request("capture", tmp_path))
    worker.savepoint.ask(request("hold", tmp_path))  # the same request once more
    assert not worker.savepoint.active


def test_a_paused_worker_refuses(fleet: tuple[Fleet, Counting], tmp_path: Path) -> None:
    workers, _ = fleet
    worker = workers.start("a")
    workers.settle()
    worker.savepoint.ask(request("hold", tmp_path), paused=True)
    (answer,) = worker.savepoint.answers()
    assert "paused" in answer.why


def test_copies_that_cannot_be_stored_are_told_of(fleet: tuple[Fleet, Counting], tmp_path: Path) -> None:
    workers, counting = fleet
    (tmp_path / "file").write_text("no directory")
    workers.send(counting.source, KEYS)
    worker = hold(workers, tmp_path / "file")
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", tmp_path / "file"))
    refused = answers(worker, workers, "refused")
    assert "files cannot be stored" in refused.why and "in/" in refused.why
    worker.savepoint.ask(request("abort", tmp_path))
    workers.settle()
    counting.check(workers)


def test_local_state_that_cannot_be_copied_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    counting = Counting()
    workers = Fleet(counting.app, tmp_path / "state")
    workers.send(counting.source, KEYS)
    worker = hold(workers, tmp_path)

    def broken(_: Path) -> None:
        raise StateError("the disk is on fire")

    monkeypatch.setattr(next(iter(worker.tasks.values())).backend, "freeze", broken)
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", tmp_path))
    assert "cannot be copied: the disk is on fire" in answers(worker, workers, "refused").why
    workers.settle()
    counting.check(workers)
    workers.close()


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_copy_that_failed_does_not_stand_in_the_way_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Some tasks were copied before one was not."""
    counting = Counting()
    workers = Fleet(counting.app, tmp_path / "state", backend=backend)
    workers.send(counting.source, KEYS)
    worker = hold(workers, tmp_path / "saved")
    last = list(worker.tasks.values())[-1].backend

    def broken(_: Path) -> None:
        raise StateError("the disk is full")

    with monkeypatch.context() as now:
        now.setattr(last, "freeze", broken)
        answers(worker, workers, "holding")
        worker.savepoint.ask(request("capture", tmp_path / "saved"))
        assert "the disk is full" in answers(worker, workers, "refused").why
    assert not list((tmp_path / "state").glob("*/@savepoint/*"))
    worker.savepoint.ask(request("abort", tmp_path / "saved"))
    worker.savepoint.ask(request("hold", tmp_path / "saved", id="2"))
    answers(worker, workers, "holding")
    leftover = worker.directory / "@savepoint" / "in" / "0"  # of a deletion that failed
    leftover.mkdir(parents=True)
    worker.savepoint.ask(request("capture", tmp_path / "saved", id="2"))
    answers(worker, workers, "captured")
    worker.savepoint.ask(request("resume", tmp_path / "saved", id="2"))
    assert len(answers(worker, workers, "stored").tasks) == 4
    workers.settle()
    counting.check(workers)
    workers.close()


@pytest.mark.parametrize("ends", ["resume, then abort", "abort", "time"])
def test_a_savepoint_that_is_given_up_while_it_is_stored_leaves_no_files(
    fleet: tuple[Fleet, Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    workers, counting = fleet
    workers.send(counting.source, KEYS)
    saved = tmp_path / "saved"
    worker = hold(workers, saved)
    answers(worker, workers, "holding")
    begun, go_on, put = threading.Event(), threading.Event(), DirectoryStorage.put

    def slow(storage: DirectoryStorage, name: str, chunks: Any) -> None:
        put(storage, name, chunks)
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(DirectoryStorage, "put", slow)
    worker.savepoint.ask(request("capture", saved))
    answers(worker, workers, "captured")
    assert begun.wait(30)
    if ends == "time":
        workers.clock.advance(61)
        answers(worker, workers, "refused")
    else:
        for phase in ends.split(", then "):
            worker.savepoint.ask(request(phase, saved))
    assert not worker.savepoint.active
    go_on.set()
    until(lambda: workers.step() or not any(files for _, _, files in os.walk(saved)), "the files to go")
    until(lambda: workers.step() or not list(worker.directory.glob("@savepoint/*")), "the copies to go")
    assert "stored" not in {one.phase for one in worker.savepoint.answers()}
    worker.savepoint.ask(request("hold", saved, id="2"))
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", saved, id="2"))
    answers(worker, workers, "captured")
    worker.savepoint.ask(request("resume", saved, id="2"))
    assert len(answers(worker, workers, "stored").tasks) == 4
    workers.settle()
    counting.check(workers)


def test_what_was_told_to_be_stored_is_never_deleted_by_the_worker(
    fleet: tuple[Fleet, Counting], tmp_path: Path
) -> None:
    """The savepoint may be there by then: the word of it comes late."""
    workers, counting = fleet
    workers.send(counting.source, KEYS)
    saved = tmp_path / "saved"
    worker = hold(workers, saved)
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", saved))
    stored = answers(worker, workers, "stored")
    workers.clock.advance(61)
    answers(worker, workers, "refused")
    worker.savepoint.close()
    assert all(part.stored and (saved / part.stored).exists() for part in stored.tasks.values())


def test_repartition_topics_run_dry_while_the_inputs_are_held(tmp_path: Path) -> None:
    app = kstream.App("words")
    source = app.topic("in", key=str, value=str)
    counts = app.topic("counts", key=str, value=int)
    app.stream(source).group_by(lambda word: word, key=str, name="by-word").count(name="n").to(counts)
    workers = Fleet(app, tmp_path / "state", commit_interval=100.0, transaction_timeout=1000.0)
    worker = workers.start("a")
    workers.step(times=30)
    words = [f"w{i}" for i in range(40)]
    for key, word in zip(itertools.cycle(KEYS), words, strict=False):
        workers.cluster.append("in", key.encode(), word.encode())
    until(lambda: workers.step() or sum(task.records for task in worker.tasks.values()), "some records")
    worker.savepoint.ask(request("hold", tmp_path))
    held = {task.name: dict(task.positions) for task in worker.tasks.values() if task.part.name == "in"}

    def dry() -> bool:
        workers.step()
        said = worker.savepoint.answers()
        return bool(said) and all(part.quiet for part in said[-1].tasks.values()) and bool(workers.outputs(counts))

    until(dry, "all to be quiet")
    internal = "words-by-word-repartition"
    for task in worker.tasks.values():
        if task.part.name == internal:
            at = TopicPartition(internal, task.partition)
            assert task.positions[at] >= workers.cluster.log(at).stable_end
        else:
            assert task.positions == held[task.name], "an input from outside was read on"
    worker.savepoint.ask(request("resume", tmp_path))
    workers.settle()
    assert set(map(tuple, workers.outputs(counts).values())) == {(1,)}
    workers.close()


class Reminder(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: kstream.ProcessorContext[str, str]) -> None:
        ctx.timer(after=timedelta(seconds=100), clock="wall")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, str]) -> None:
        ctx.emit("due")


@pytest.mark.parametrize("end", ["stops", "another comes", "goes on"])
def test_what_is_due_by_the_clock_after_the_copy_is_not_told_before_the_savepoint_is_over(
    tmp_path: Path, end: str
) -> None:
    """It was with the last commit of a stop: a restore told it again."""
    app = kstream.App("reminding")
    source = app.topic("in", key=str, value=str)
    told = app.topic("told", key=str, value=str)
    app.stream(source).process(Reminder, name="reminder").to(told)
    workers = Fleet(app, tmp_path / "state")
    workers.cluster.append("in", b"k", b"v")
    worker = workers.start("a")
    workers.settle()
    worker.savepoint.ask(request("hold", tmp_path / "saved", timeout=10_000.0))
    answers(worker, workers, "holding")
    worker.savepoint.ask(request("capture", tmp_path / "saved", timeout=10_000.0))
    answers(worker, workers, "stored")
    workers.clock.advance(200.0)
    workers.step(times=30)
    assert workers.outputs(told) == {}
    if end == "stops":
        workers.leave("a")
        assert workers.outputs(told) == {}
        workers.start("a")
    elif end == "another comes":
        workers.start("b")
    else:
        worker.savepoint.ask(request("resume", tmp_path))
    until(lambda: workers.step(seconds=0.3) or workers.outputs(told), "the timer")
    assert list(map(list, workers.outputs(told).values())) == [["due"]]
    workers.close()


def test_requests_and_answers_survive_the_pipes() -> None:
    answer = Answer("1", "a-default-b-0", "refused", why="because")
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Answer) == answer
