"""The lag of a task that nothing is fetched for: the brokers' ends, asked now and then; unknown is not 0."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

import kstream
from kstream.errors import KafkaUnavailable
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.ends import ASK_SECONDS, Ends
from kstream.testing import ManualClock
from kstream.types import TopicPartition

from ..harness import Counting, Fleet

AT = TopicPartition("in", 0)
KEYS = [f"k{i}" for i in range(30)]


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def fleet(counting: Counting, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(counting.app, tmp_path, partitions=1)
    yield fleet
    fleet.close()


def lag(fleet: Fleet) -> dict[TopicPartition, int]:
    worker = fleet.workers["a"]
    return worker.lags_of(fleet.task("a", 0))


def failing_fleet(tmp_path: Path) -> tuple[Fleet, Any]:
    app = kstream.App("failing")
    source = app.topic("in", key=str, value=int)

    @app.agent(source)
    def fails(value: int) -> None:
        raise ValueError("planned")

    return Fleet(app, tmp_path, partitions=1, restart_initial=1000.0, restart_max=1000.0), source


def test_records_that_come_while_a_task_is_down_count_as_lag(tmp_path: Path) -> None:
    fleet, source = failing_fleet(tmp_path)
    fleet.start("a")
    fleet.send(source, KEYS[:1])
    fleet.step(times=20)
    assert fleet.task("a", 0).state is TaskState.FAILED
    fleet.send(source, KEYS)
    fleet.step(times=3, seconds=ASK_SECONDS)
    assert lag(fleet) == {TopicPartition("in", 0): 31}
    fleet.send(source, KEYS)
    fleet.step(times=3, seconds=ASK_SECONDS)
    assert lag(fleet) == {TopicPartition("in", 0): 61}
    fleet.close()


def test_a_task_that_is_restored_has_a_lag_once_its_offsets_are_known(fleet: Fleet, counting: Counting) -> None:
    fleet.send(counting.source, KEYS)
    worker = fleet.start("a")
    fleet.settle()
    fleet.crash("a")
    fleet.send(counting.source, KEYS)
    for _ in range(2):
        fleet.cluster.fail_next("committed", KafkaUnavailable("planned"))
    worker = fleet.start("a")
    while not worker.tasks:
        fleet.step()
    fleet.step(times=2)
    task = fleet.task("a", 0)
    assert task.state is TaskState.RESTORING and lag(fleet) == {}  # neither 60 nor 0
    report = report_of(worker, StoreSizes(fleet.clock.monotonic))
    assert [one.lag for one in report.tasks[0].inputs] == [None]
    assert not [one for one in report.metrics if one.name == "consumer_lag_records"]
    seen = set()
    while task.state is TaskState.RESTORING:
        fleet.step(seconds=0.3)
        seen.add(tuple(lag(fleet).values()))
    assert seen - {()} <= {(30,)}
    fleet.settle()
    assert lag(fleet) == {TopicPartition("in", 0): 0}


class Brokers:
    """The log's end, what the client heard of it, and what is asked and not answered yet."""

    def __init__(self) -> None:
        self.end = 0
        self.heard: int | None = None
        self.asked: list[Future[dict[TopicPartition, int]]] = []

    def end_offsets(self, places: list[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        self.asked.append(Future())
        return self.asked[-1]

    def answer(self) -> None:
        self.asked.pop(0).set_result({AT: self.end})

    def high_watermark(self, at: TopicPartition) -> int | None:
        return self.heard


@pytest.mark.parametrize("heard", [None, 10])
@pytest.mark.parametrize("answered", ["while it was quiet", "after it was resumed"])
def test_the_end_of_an_input_that_is_resumed_does_not_go_back(heard: int | None, answered: str) -> None:
    """The client knows what it heard before the pause until it has fetched again, however long that takes."""
    brokers, clock, owned, quiet = Brokers(), ManualClock(), {AT}, {AT}
    ends = Ends(cast(Any, brokers), cast(Any, brokers), clock, owned=lambda: owned, quiet=lambda: quiet)
    brokers.end, brokers.heard = 500, heard
    ends.step()
    if answered == "while it was quiet":
        brokers.answer()
        ends.step()
        assert ends.of(AT) == 500
    quiet.clear()
    if answered == "after it was resumed":
        brokers.answer()
    for _ in range(5):
        clock.advance(ASK_SECONDS)
        ends.step()
        assert ends.of(AT) == brokers.end
        brokers.end += 10
        brokers.answer()  # it is asked on, until the client knows
        ends.step()
        assert ends.of(AT) == brokers.end
    brokers.heard = brokers.end
    for _ in range(3):
        clock.advance(ASK_SECONDS)
        ends.step()
    assert not brokers.asked and ends.of(AT) == brokers.end


def test_of_an_input_that_went_to_another_worker_nothing_is_asked() -> None:
    brokers, clock, owned, quiet = Brokers(), ManualClock(), {AT}, {AT}
    ends = Ends(cast(Any, brokers), cast(Any, brokers), clock, owned=lambda: owned, quiet=lambda: quiet)
    ends.step()
    quiet.clear()
    owned.clear()
    brokers.end = 500
    brokers.answer()
    for _ in range(3):
        clock.advance(ASK_SECONDS)
        ends.step()
    assert not brokers.asked and ends.of(AT) is None


def test_one_request_for_all_and_none_while_everything_is_fetched(fleet: Fleet, counting: Counting) -> None:
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.cluster.fail_next("end_offsets", AssertionError("asked"))  # strikes whoever asks
    fleet.step(times=10, seconds=ASK_SECONDS)


def test_an_answer_that_does_not_come_is_asked_for_again(tmp_path: Path) -> None:
    fleet, source = failing_fleet(tmp_path)
    fleet.start("a")
    fleet.send(source, KEYS[:1])
    fleet.step(times=20)
    fleet.send(source, KEYS)
    fleet.cluster.fail_next("end_offsets", KafkaUnavailable("planned"))
    fleet.step(times=4, seconds=ASK_SECONDS)
    assert lag(fleet) == {TopicPartition("in", 0): 31}
    fleet.close()


def test_what_comes_while_a_flood_is_held_back_counts_as_lag(tmp_path: Path) -> None:
    """The task has paused its input, of which the client hears nothing more."""
    app = kstream.App("flood")
    source = app.topic("in", key=str, value=int)
    gate = {"open": False}

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            while not gate["open"]:
                await asyncio.sleep(0)

    fleet = Fleet(app, tmp_path, partitions=1, poll_batch=5, commit_interval=100.0, transaction_timeout=300.0)
    fleet.start("a")
    for n in range(200):
        fleet.send(source, ["k"], n)
    fleet.step("a", times=60, seconds=0.0)
    at = TopicPartition("in", 0)
    assert 50 < fleet.task("a", 0).buffered <= 60
    heard = fleet.workers["a"].lags_of(fleet.task("a", 0))[at]
    for n in range(40):
        fleet.send(source, ["k"], n)
    fleet.step("a", times=3, seconds=ASK_SECONDS)
    assert lag(fleet)[at] == heard + 40 >= 239, "one of them is at work"
    gate["open"] = True
    fleet.settle()
    assert lag(fleet) == {at: 0}
    fleet.close()
