"""Listeners of checkpoints: who is told, of what, and that nothing they do reaches the loop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import kstream
from kstream import Checkpoint
from kstream.errors import AbortRequired, CheckpointsFailed, ProducerLost, TopologyError
from kstream.runtime.worker import listening
from kstream.runtime.worker.listening import Listening
from kstream.specs.listener import CheckpointListener, CheckpointListeners
from kstream.testing import TestDriver

from ..harness import Counting, Fleet


def checkpoint(number: int, error: str | None = None) -> Checkpoint:
    return Checkpoint(id=str(number), kind="commit", worker="w", at=0.0, seconds=0.0, error=error)


def of(*complete: CheckpointListener, aborted: tuple[CheckpointListener, ...] = ()) -> CheckpointListeners:
    return CheckpointListeners(list(complete), list(aborted))


def test_they_are_told_in_order_on_a_thread_of_their_own() -> None:
    told: list[tuple[str, str]] = []
    here = Listening(of(lambda done: told.append((done.id, threading.current_thread().name))))
    for number in range(100):
        here.tell(checkpoint(number))
    here.close()
    assert told == [(str(number), "listeners") for number in range(100)]


def test_each_kind_hears_of_its_own(tmp_path: Path) -> None:
    complete: list[str] = []
    aborted: list[str] = []
    here = Listening(of(lambda one: complete.append(one.id), aborted=(lambda one: aborted.append(str(one.error)),)))
    here.tell(checkpoint(1))
    here.tell(checkpoint(2, "planned"))
    here.close()
    assert (complete, aborted) == (["1"], ["planned"])


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)], ids=["an exception", "sys.exit"])
def test_one_that_raises_is_logged_and_ends_nothing(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def fails(_: Checkpoint) -> None:
        raise error

    here = Listening(of(fails, lambda one: told.append(one.id)))
    here.tell(checkpoint(1))
    here.tell(checkpoint(2))
    here.close()
    assert told == ["1", "2"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "fails failed on checkpoint 1" in caplog.text and repr(error) in caplog.text


def test_a_slow_one_holds_nobody_up_and_the_oldest_are_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST_WAITING", 3)
    begun, go_on = threading.Event(), threading.Event()
    told: list[str] = []

    def slow(one: Checkpoint) -> None:
        begun.set()
        assert go_on.wait(60)
        told.append(one.id)

    here = Listening(of(slow))
    here.tell(checkpoint(0))
    assert begun.wait(60)
    for number in range(1, 6):  # returns at once, though nobody takes them
        here.tell(checkpoint(number))
    go_on.set()
    here.close()
    assert told == ["0", "3", "4", "5"] and here.left_out == 2
    assert len(caplog.records) == 1 and "slower than the checkpoints" in caplog.text


def test_a_stop_waits_for_a_while_and_says_what_was_not_told(caplog: pytest.LogCaptureFixture) -> None:
    forever = threading.Event()
    here = Listening(of(lambda _: forever.wait(60)))
    here.tell(checkpoint(1))
    here.tell(checkpoint(2))
    here.close(0.01)
    assert "they were not called for 2 checkpoints" in caplog.text
    forever.set()


def test_there_is_no_thread_where_nobody_listens() -> None:
    here = Listening(of(aborted=(print,)))
    before = threading.active_count()
    here.tell(checkpoint(1))
    assert threading.active_count() == before
    here.close()


def test_a_worker_tells_of_each_commit_with_an_id_of_its_own(tmp_path: Path) -> None:
    app = Counting()
    complete: list[Checkpoint] = []
    aborted: list[Checkpoint] = []
    app.app.on_checkpoint_complete(complete.append)
    app.app.on_checkpoint_aborted(aborted.append)
    fleet = Fleet(app.app, tmp_path, partitions=2)
    for life in (1, 2):
        fleet.start("a")
        fleet.send(app.source, [f"k{n}" for n in range(10)])
        fleet.cluster.fail_next("commit", AbortRequired("planned"))
        fleet.settle()
        fleet.leave("a")  # waits for the listeners
        assert len(aborted) == life and aborted[-1].error == "planned"
    assert sum(one.records for one in complete) == 20 and all(one.error is None for one in complete)
    ids = [one.id for one in (*complete, *aborted)]
    assert len(set(ids)) == len(ids), "over a restart too"
    assert {one.kind for one in complete} == {"commit"} and {one.tasks for one in complete} <= {1, 2}


def test_one_that_is_past_its_time_out_is_aborted_and_counts_as_failed(tmp_path: Path) -> None:
    """As Flink's: with tolerable_failed_checkpoints=0 it is the worker's end, and its successor goes on from the last
    one that is complete."""
    app = Counting()
    aborted: list[Checkpoint] = []
    app.app.on_checkpoint_aborted(aborted.append)
    fleet = Fleet(app.app, tmp_path, partitions=1, tolerable_failed_checkpoints=0)
    fleet.start("a")
    fleet.send(app.source, ["k"])
    fleet.settle()
    fleet.send(app.source, ["k"])
    fleet.cluster.fail_next("commit", ProducerLost("the commit timed out"))
    with pytest.raises(CheckpointsFailed, match=r"1 commits in a row failed.*the commit timed out"):
        fleet.settle()
    fleet.crash("a")
    assert [one.error for one in aborted] == ["the commit timed out"]
    fleet.start("a")
    fleet.settle()
    app.check(fleet)
    fleet.close()


def test_what_a_listener_does_to_a_table_is_refused_and_the_commit_stays(caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("told")
    words = app.topic("words", key=str, value=str)
    last = app.table("last", key=str, value=str)
    told: list[int] = []

    @app.agent(words)
    def keep(word: str, ctx: kstream.Context[str]) -> None:
        last[ctx.key] = word

    @app.on_checkpoint_complete
    def done(one: Checkpoint) -> None:
        told.append(one.records)
        last["other"] = "x"

    with TestDriver(app) as d:
        d.send(words, "a", key="k")
        assert d.table(last) == {"k": "a"} and told == [1]
    assert "can only be used" in caplog.text or "TableError" in caplog.text


def test_what_cannot_be_a_listener_is_refused_where_it_is_declared() -> None:
    app = kstream.App("told")

    async def later(_: Checkpoint) -> None:
        return

    with pytest.raises(TopologyError, match=r"on_checkpoint_complete\(later\) is given an async function"):
        app.on_checkpoint_complete(later)
    with pytest.raises(TopologyError):
        app.on_checkpoint_aborted(lambda: None)  # type: ignore[arg-type,misc]
