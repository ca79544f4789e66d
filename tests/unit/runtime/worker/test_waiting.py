"""Agents that wait for something outside hold up their own task, and no other: commits leave it out meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.runtime.task.pace import PROMPT, Pace
from kstream.testing.consumer import MemoryConsumer
from kstream.types import Polled
from unit.runtime.harness import Fleet


class Slow:
    """Agent `asks` waits at each record until its gate is opened; `counts` on another topic is instant."""

    def __init__(self, directory: Path, guarantee: str = "exactly_once", **more: Any) -> None:
        self.calls: dict[int, int] = defaultdict(int)
        self.opened: set[int] = set()
        self.app = app = kstream.App("waiting")
        self.slow, self.quick = app.topic("slow", key=str, value=int), app.topic("quick", key=str, value=int)
        self.answers, self.seen = app.topic("answers", key=str, value=int), app.topic("seen", key=str, value=int)
        self.sent = app.topic("sent", key=str, value=int)
        table = app.table("asked", key=str, value=int, default=0)

        @app.agent(self.slow, to=self.answers)
        async def asks(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
            async for n in stream:
                self.calls[n] += 1
                table[ctx.key] += 1
                ctx.send(self.sent, n)
                while n not in self.opened:
                    await asyncio.sleep(0.001)
                table[ctx.key] += 1
                yield n

        app.stream(self.quick).group_by_key().count(name="n").to(self.seen)
        self.fleet = Fleet(app, directory, partitions=1, processing_guarantee=guarantee, **more)

    def open(self, *numbers: int) -> None:
        self.opened.update(numbers)


@pytest.fixture(params=["exactly_once", "at_least_once"])
def case(request: Any, tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(tmp_path, request.param)
    yield slow
    slow.fleet.close()


def test_the_others_commit_while_it_waits(case: Slow) -> None:
    fleet = case.fleet
    worker = fleet.start("a")
    fleet.settle()
    fleet.send(case.slow, ["k"] * 3, 0)
    for n in (1, 2, 3, 4):
        fleet.send(case.slow, ["k"], n)
    for round in range(1, 9):
        fleet.send(case.quick, ["x"])
        fleet.step("a", times=25, seconds=0.06)  # one and a half commit intervals
        assert fleet.outputs(case.seen) == {"x": list(range(1, round + 1))}, "at once"
        assert fleet.committed("quick")[0] == round
    assert (worker.aborts, case.calls[0]) == (0, 1), "nothing is taken back, and it is asked once"
    assert fleet.committed("slow") in ({}, {0: 0})
    assert fleet.outputs(case.sent) == fleet.outputs(case.answers) == {}
    case.open(*range(5))
    fleet.settle()
    assert fleet.outputs(case.answers) == fleet.outputs(case.sent) == {"k": [0, 0, 0, 1, 2, 3, 4]}
    assert fleet.changelog("asked") == {(0, b"k"): b"14"}
    assert (worker.aborts, dict(case.calls)) == (0, {0: 3, 1: 1, 2: 1, 3: 1, 4: 1})


def test_it_goes_on_at_its_own_pace(case: Slow) -> None:
    """Each record it is through with is committed, though the next one waits already."""
    fleet = case.fleet
    fleet.start("a")
    for n in range(6):
        fleet.send(case.slow, ["k"], n)
    fleet.step("a", times=20)
    for n in range(6):
        case.open(n)
        for _ in range(60):
            fleet.send(case.quick, ["x"])
            fleet.step("a")
        assert fleet.committed("slow")[0] == n + 1
        assert fleet.outputs(case.answers) == {"k": list(range(n + 1))}
    assert set(case.calls.values()) == {1}


def test_a_task_that_takes_nothing_before_its_commit_does_not_keep_the_loop_turning(
    case: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has more to do and cannot: the loop waits for records of others, not longer than until that commit. Before,
    it turned as often as it could (measured with two async agents that share a table)."""
    fleet = case.fleet
    worker = fleet.start("a")
    poll, waits = MemoryConsumer.poll, []

    def noted(self: MemoryConsumer, max_records: int, timeout: float) -> Polled:
        held = any(task.wants_commit and task.buffered for task in worker.tasks.values())
        if held and not worker.committer.is_due():
            waits.append(timeout)
        return poll(self, max_records, timeout)

    monkeypatch.setattr(MemoryConsumer, "poll", noted)
    fleet.settle()
    for n in range(4):
        fleet.send(case.slow, ["k"], n)
    fleet.step("a", times=20, seconds=0.01)
    case.open(*range(4))
    fleet.step("a", times=500, seconds=0.01)
    assert fleet.outputs(case.answers) == {"k": [0, 1, 2, 3]}
    assert waits and all(0.0 < seconds <= 0.25 for seconds in waits), waits


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_failure_beside_it_leaves_it_alone(tmp_path: Path, guarantee: str) -> None:
    """Nor does it give the others more to do than those that had a part in what is taken back."""
    case = Slow(tmp_path)
    bad = case.app.topic("bad", key=str, value=int)

    @case.app.agent(bad)
    def fails(n: int) -> None:
        raise ValueError(n)

    fleet = Fleet(case.app, tmp_path, partitions=1, processing_guarantee=guarantee)
    worker = fleet.start("a")
    fleet.settle()
    fleet.send(case.slow, ["k"], 7)
    fleet.step("a", times=20)
    restores = sum(worker.restorer.durations.counts)
    fleet.send(bad, ["b"], 1)
    for _ in range(60):
        fleet.send(case.quick, ["x"])
        fleet.step("a")
    assert worker.aborts >= 2
    fleet.step("a", times=60)
    retries = sum(task.measures.retries for task in worker.tasks.values())
    assert retries >= 1
    assert sum(worker.restorer.durations.counts) - restores <= retries + 2
    assert case.calls[7] == 1, "it was not asked again"
    case.open(7)
    fleet.step("a", times=60)
    assert fleet.outputs(case.answers) == {"k": [7]}
    fleet.close()


@pytest.mark.parametrize("end", [Fleet.crash, Fleet.leave], ids=["crash", "leave"])
def test_who_takes_over_asks_again_and_nothing_counts_twice(tmp_path: Path, end: Callable[[Fleet, str], None]) -> None:
    case = Slow(tmp_path, transaction_timeout=3.0)
    fleet = case.fleet
    worker = fleet.start("a")
    worker.committer.meanwhile = lambda: fleet.clock.advance(0.05)
    fleet.settle()
    case.open(1)
    fleet.send(case.slow, ["k"], 1)
    fleet.send(case.slow, ["k"], 2)
    for _ in range(40):
        fleet.send(case.quick, ["x"])
        fleet.step("a")
    end(fleet, "a")
    fleet.expire("a") if end is Fleet.crash else None
    fleet.start("b")
    case.open(2)
    fleet.settle()
    assert fleet.outputs(case.answers) == {"k": [1, 2]}
    assert fleet.changelog("asked") == {(0, b"k"): b"4"}
    assert fleet.outputs(case.seen) == {"x": list(range(1, 41))}
    fleet.close()


def test_a_rebalance_does_not_wait_for_ever(tmp_path: Path) -> None:
    """The partitions may come back: then what was in flight is done again, from what was committed."""
    case = Slow(tmp_path, transaction_timeout=3.0)
    fleet = case.fleet
    worker = fleet.start("a")
    fleet.settle()
    fleet.send(case.slow, ["k"], 2)
    fleet.step("a", times=30)
    worker.committer.meanwhile = lambda: fleet.clock.advance(0.05)
    fleet.start("b")
    fleet.step(times=60)
    case.open(2)
    fleet.settle()
    assert fleet.outputs(case.answers) == {"k": [2]}
    assert fleet.changelog("asked") == {(0, b"k"): b"2"}
    fleet.close()


def test_a_wait_that_comes_as_a_surprise_takes_back_once(tmp_path: Path) -> None:
    """Until now it never waited, so finished records are in the transaction when it does."""
    case = Slow(tmp_path)
    fleet = case.fleet
    worker = fleet.start("a")
    case.open(*range(100))
    fleet.settle()
    for n in (0, 1, 2, 200, 3):
        fleet.send(case.slow, ["k"], n)
    worker.committer.meanwhile = lambda: fleet.clock.advance(0.1)
    for _ in range(120):
        fleet.send(case.quick, ["x"])
        fleet.step("a")
    assert worker.aborts <= 1
    assert fleet.outputs(case.seen)["x"][:100] == list(range(1, 101))
    case.open(200)
    fleet.settle()
    assert fleet.outputs(case.answers) == {"k": [0, 1, 2, 200, 3]}
    fleet.close()


def test_changes_emitted_at_the_commit_may_be_waited_for_too(tmp_path: Path) -> None:
    app = kstream.App("behind")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    quick, seen = app.topic("quick", key=str, value=int), app.topic("seen", key=str, value=int)
    gate = asyncio.Event()
    counts = app.stream(source).group_by_key().aggregate(int, lambda total, n: total + n, name="sums", emit="commit")

    @app.agent(counts.stream(), to=out)
    async def asks(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            await gate.wait()
            yield n

    app.stream(quick).group_by_key().count(name="n").to(seen)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    worker.committer.meanwhile = lambda: fleet.clock.advance(0.1)
    fleet.settle()
    fleet.send(source, ["k"], 1)
    for _ in range(60):
        fleet.send(quick, ["x"])
        fleet.step("a")
    assert worker.aborts <= 1
    assert len(fleet.outputs(seen)["x"]) >= 40
    gate.set()
    fleet.send(source, ["k"], 2)
    fleet.settle()
    assert fleet.outputs(out)["k"][-1] == 3
    assert fleet.changelog("sums") == {(0, b"k"): b"3"}
    fleet.close()


class SlowAndFailing:
    """An agent that takes so many of the clock's seconds a record, and fails at some; a count beside it."""

    def __init__(self, directory: Path, guarantee: str) -> None:
        self.calls: dict[int, int] = defaultdict(int)
        self.waits: dict[int, float] = {}
        self.bad: set[int] = set()
        app = kstream.App("failing")
        self.source, self.out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
        self.quick, self.seen = app.topic("quick", key=str, value=int), app.topic("seen", key=str, value=int)

        @app.agent(self.source, to=self.out)
        async def asks(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
            async for n in stream:
                self.calls[n] += 1
                until = self.fleet.clock.monotonic() + self.waits.get(n, 0.0)
                while self.fleet.clock.monotonic() < until:
                    await asyncio.sleep(0.0001)
                if n in self.bad:
                    raise ValueError(n)
                yield n

        app.stream(self.quick).group_by_key().count(name="n").to(self.seen)
        self.fleet = Fleet(app, directory, partitions=1, processing_guarantee=guarantee)
        self.worker = self.fleet.start("a")
        self.worker.committer.meanwhile = lambda: self.fleet.clock.advance(0.1)
        self.fleet.settle()

    def answers(self, guarantee: str) -> list[int]:
        """Each once; with at-least-once those before a failure may be there again."""
        found = list(self.fleet.outputs(self.out)["k"])
        return found if guarantee == "exactly_once" else list(dict.fromkeys(found))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.fleet.send(self.quick, ["x"])
            self.fleet.step("a")


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_it_begins_to_wait_while_a_record_at_fault_is_looked_for(tmp_path: Path, guarantee: str) -> None:
    """Many good ones before it, which are processed again: each takes longer than a commit is kept waiting for."""
    case = SlowAndFailing(tmp_path, guarantee)
    case.bad = {6}
    for n in range(10):
        case.fleet.send(case.source, ["k"], n)
    while not case.worker.aborts:
        case.fleet.step("a", seconds=0.001)
    case.waits = dict.fromkeys(range(10), 2.5)
    case.turns(900)
    assert case.fleet.committed("in")[0] == 6
    assert case.answers(guarantee) == [0, 1, 2, 3, 4, 5]
    (error,) = [str(task.error) for task in case.worker.tasks.values() if task.error]
    assert "in[0] offset 6" in error
    assert case.worker.aborts <= 12, "each try of the record at fault, and one wait that came as a surprise"
    case.bad.clear()
    case.waits.clear()
    case.turns(900)
    assert case.answers(guarantee) == list(range(10))
    case.fleet.close()


@pytest.mark.parametrize("guarantee", ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.more)])
def test_others_keep_their_commit_interval_while_the_record_at_fault_waits(tmp_path: Path, guarantee: str) -> None:
    case = SlowAndFailing(tmp_path, guarantee)
    case.bad, case.waits = {0}, {0: 60.0}
    case.fleet.send(case.source, ["k"], 0)
    case.turns(1200)
    assert case.calls[0] >= 2, "once, and once more apart"
    commits = case.worker.commits
    case.turns(400)  # 24 s
    assert 20 <= case.worker.commits - commits <= 60, "in an interval of a second each"
    case.fleet.close()


# ---- the pace of one task


def test_a_task_that_waits_is_cautious_until_it_has_been_prompt_for_a_while() -> None:
    pace = Pace()
    assert not pace.cautious
    pace.finished(waited=True)
    for _ in range(PROMPT - 1):
        pace.finished(waited=False)
        assert pace.cautious
    pace.finished(waited=False)
    assert not pace.cautious


def test_after_a_surprise_it_takes_longer() -> None:
    pace = Pace()
    pace.surprised()
    prompt = 0
    while pace.cautious:
        pace.finished(waited=False)
        prompt += 1
    assert prompt == 4 * PROMPT


def test_where_commits_wait_for_agents_nothing_is_cautious() -> None:
    pace = Pace(heeded=False)
    pace.finished(waited=True)
    pace.surprised()
    assert not pace.cautious
