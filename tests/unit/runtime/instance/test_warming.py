"""Which instances keep which tasks warm, and which of their workers."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

import kstream
from kstream.observe.status import NOBODY, InstanceStatus, TaskStatus
from kstream.runtime.instance.warming import LOOK_SECONDS, Warming, both, highest, kept_warm
from kstream.runtime.process.report import Command, Report

TASKS = [f"in/{number}" for number in range(200)]
NAMES = [f"i{number}" for number in range(5)]
OWNERS = {task: NAMES[number % 5] for number, task in enumerate(TASKS)}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_task_is_followed_by_as_many_as_are_wanted_and_not_by_its_owner(count: int) -> None:
    found = {name: kept_warm(TASKS, name, OWNERS, NAMES, count) for name in NAMES}
    copies = Counter(task for tasks in found.values() for task in tasks)
    assert copies == dict.fromkeys(TASKS, count)
    assert not any(OWNERS[task] == name for name, tasks in found.items() for task in tasks)
    shares = [len(tasks) for tasks in found.values()]
    assert max(shares) < 1.6 * min(shares), "they are shared out unevenly"


def test_fewer_instances_than_wanted_follow_what_they_can() -> None:
    assert kept_warm(TASKS, "i0", dict.fromkeys(TASKS, "i1"), ["i0", "i1"], 3) == TASKS
    assert kept_warm(TASKS, "i1", dict.fromkeys(TASKS, "i1"), ["i0", "i1"], 3) == []


def test_one_that_comes_or_goes_changes_only_its_own_share() -> None:
    """What makes rendezvous hashing: nobody begins a copy because of somebody else's."""
    before = {task: set(highest(NAMES, task, 1)) for task in TASKS}
    after = {task: set(highest(NAMES[:-1], task, 1)) for task in TASKS}
    moved = [task for task in TASKS if before[task] != after[task]]
    assert moved == [task for task in TASKS if before[task] == {NAMES[-1]}]


def test_weights_are_the_same_everywhere() -> None:
    """In each process, unlike hash()."""
    assert highest(NAMES, "in/0", 5) == ["i3", "i1", "i4", "i0", "i2"]


class Process:
    def __init__(self) -> None:
        self.told: list[list[str] | None] = []

    def tell(self, command: Command) -> None:
        self.told.append(command.warm)


class Bench:
    """An instance of two workers, with a task of its own, and another instance that has the rest."""

    def __init__(self) -> None:
        app = kstream.App("app")
        app.stream(app.topic("in", key=str, value=int)).group_by_key().count(name="n")
        app.stream(app.topic("plain", key=str, value=int)).to(app.topic("out", key=str, value=int))
        self.now = 0.0
        self.others = [self.instance("other", *(f"in/{number}" for number in range(1, 8)), "plain/0")]
        self.warming = Warming(app.topology(), {"in": 8, "plain": 8}, "mine", 1, lambda: self.others, lambda: self.now)
        self.workers = [self.worker("0", "in/0"), self.worker("1")]
        self.supervisor: Any = SimpleNamespace(workers=self.workers)

    def instance(self, name: str, *tasks: str, state: Any = "running") -> InstanceStatus:
        made: Any = SimpleNamespace(
            instance=name,
            state=state,
            tasks=[TaskStatus(task, "0", "running") for task in tasks],
            workers=[SimpleNamespace(group="default")],
        )
        return made  # type: ignore[no-any-return]

    def worker(self, name: str, *tasks: str) -> Any:
        report = Report(joined=True, tasks=[TaskStatus(task, name, "running") for task in tasks])
        return SimpleNamespace(name=name, group="default", process=Process(), report=report)

    def tick(self) -> None:
        self.now += LOOK_SECONDS
        self.warming(self.supervisor)

    @property
    def told(self) -> list[str]:
        """What the workers follow by what they were told last."""
        return sorted(task for worker in self.workers if worker.process for task in (worker.process.told or [[]])[-1])


def test_the_workers_share_what_the_instance_keeps_warm() -> None:
    bench = Bench()
    bench.tick()
    assert bench.told == [f"in/{number}" for number in range(1, 8)], "without state there is nothing to follow"
    assert all(worker.process.told[-1] for worker in bench.workers)


def test_they_are_told_once() -> None:
    bench = Bench()
    for _ in range(5):
        bench.tick()
    assert [len(worker.process.told) for worker in bench.workers] == [1, 1]


def test_a_task_that_comes_here_is_given_up() -> None:
    bench = Bench()
    bench.tick()
    bench.workers[0].report.tasks.append(TaskStatus("in/3", "0", "restoring"))
    bench.tick()
    assert "in/3" not in bench.told and len(bench.told) == 6


def test_a_worker_that_is_started_again_is_told_again() -> None:
    bench = Bench()
    bench.tick()
    bench.workers[1].process = Process()
    bench.tick()
    assert len(bench.told) == 7


def test_a_worker_that_has_not_joined_leaves_all_to_the_others() -> None:
    bench = Bench()
    bench.workers[1].report.joined = False
    bench.tick()
    assert bench.told == sorted(bench.workers[0].process.told[-1])


def test_silent_instances_keep_nothing_warm_and_own_nothing() -> None:
    bench = Bench()
    bench.others.append(bench.instance("gone", "in/0", state="silent"))
    bench.tick()
    assert len(bench.told) == 7


def test_an_instance_that_runs_another_group_keeps_nothing_of_this_one_warm() -> None:
    bench = Bench()
    for number in range(20):
        bench.others.append(bench.instance(f"other-{number}"))
        bench.others[-1].workers[0].group = "side"
    bench.tick()
    assert len(bench.told) == 7


def test_what_nobody_can_have_has_no_owner() -> None:
    bench = Bench()
    bench.others[0].tasks = [TaskStatus(f"in/{number}", NOBODY, "failed") for number in range(1, 8)]
    bench.tick()
    both_follow = set(bench.told)
    assert both_follow <= {f"in/{number}" for number in range(1, 8)}


def test_the_warming_is_done_whatever_the_scaler_raises() -> None:
    done: list[str] = []

    def fails(_: Any) -> None:
        raise RuntimeError("scaling")

    with pytest.raises(RuntimeError, match="scaling"):
        both(fails, lambda _: done.append("warm"))(SimpleNamespace())  # type: ignore[arg-type]
    assert done == ["warm"]
