"""Whether a worker that reports does its work: what is trouble, for how long, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.observe.status import CheckpointStatus, InputStatus, TaskStatus
from kstream.runtime.process.liveness import Liveness
from kstream.runtime.process.report import Report


def task(position: int = 5, lag: int = 10, state: str = "running", **more: Any) -> TaskStatus:
    return TaskStatus("t/0", "0", state, lag=lag, inputs=[InputStatus("t", 0, position, lag)], **more)


def report(*tasks: TaskStatus, member: bool = True, failed: str | None = None, **more: Any) -> Report:
    checkpoints = [] if failed is None else [CheckpointStatus(0.0, "0", 1.0, error=failed)]
    return Report(joined=True, member=member, tasks=list(tasks), checkpoints=checkpoints, **more)


class Told:
    """A worker that reports every half second."""

    def __init__(self) -> None:
        self.now = 100.0
        self.liveness = Liveness()
        self.liveness.begin(self.now)
        self.hear(report())

    def hear(self, *reports: Report) -> None:
        for one in reports:
            self.now += 0.5
            self.liveness.hear(one, self.now)

    def keep(self, seconds: float, *reports: Report) -> list[tuple[float, str]]:
        """These again and again for so long. Returns the troubles then."""
        until = self.now + seconds
        while self.now < until:
            self.hear(*reports)
        return [(round(one.seconds), one.text) for one in self.liveness.troubles(self.now)]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_task_with_lag_that_does_not_move(told: Told) -> None:
    why = "agent 'charge' waits for something outside"
    assert told.keep(60, report(task(why=why))) == [(60, f"task t/0 has lag and has not moved: {why}")]
    assert told.keep(5, report(task())) == [(64, "task t/0 has lag and has not moved: the reason is not known")]
    assert told.keep(0.5, report(task(position=6))) == []


def test_one_that_reads_its_global_tables_has_no_place_yet_and_no_trouble() -> None:
    told = Told()
    told.liveness.begin(told.now)
    assert told.keep(600, report(member=False, loading=True)) == []
    assert told.keep(60, report(member=False)) == [(60, "has had no place in its consumer group")]


def test_work_that_is_not_committed(told: Told) -> None:
    moving = [report(task(position=at), uncommitted=at, commits=3) for at in (6, 7)]
    assert told.keep(60, *moving) == [(60, "has processed records and has not committed")]
    assert told.keep(0.5, report(task(position=8), commits=4)) == []


def test_commits_that_fail_although_records_are_processed_again_and_again(told: Told) -> None:
    """The positions move, forth and back; right after an abort nothing is uncommitted."""
    told.hear(report(task(), commits=3))
    once = [
        report(task(position=6), uncommitted=1, commits=3),
        report(task(), commits=3, failed="commit took longer than 10 s"),
    ]
    (found,) = told.keep(60, *once)
    assert found == (60, "has processed records and has not committed: commit took longer than 10 s")
    assert told.keep(0.5, report(task(position=6), commits=4)) == []


def test_a_worker_without_a_place_in_its_group(told: Told) -> None:
    suspended = task(state="suspended")
    assert told.keep(60, report(suspended, member=False)) == [(60, "has had no place in its consumer group")]
    assert told.keep(0.5, report(task(state="restoring"))) == []


def test_one_that_never_joins() -> None:
    liveness = Liveness()
    liveness.begin(100.0)
    liveness.hear(Report(), 130.0)
    assert [one.seconds for one in liveness.troubles(160.0)] == [60.0]
    liveness.begin(160.0)
    assert [one.seconds for one in liveness.troubles(161.0)] == [1.0]


@pytest.mark.parametrize(
    "reports",
    [
        [report(task(), paused=True), report(task(), uncommitted=5, paused=True)],
        [report(task(state="failed", error="task t/0 stopped at t[0] offset 7"))],
        # a task that is tried again, and whose commit fails each time, while no other has anything to commit
        [
            report(task(state="failed", error="it cannot be encoded"), failed="record failed"),
            report(task(state="restoring")),
            report(task(position=6), uncommitted=1),
            report(task(state="failed", error="it cannot be encoded")),
        ],
        [report(task(state="restoring"))],
        [report(task(at_end=True))],
        [report(task(lag=0))],
        [report(task(position=5)), report(task(position=6))],
        [report(task(), member=False), report(task(state="restoring"))],
        [report(task(position=5), uncommitted=1, commits=1), report(task(position=6), commits=2)],
        [report()],
    ],
    ids=[
        "paused", "failed task", "task tried again", "restore", "open transaction", "nothing to do", "moving",
        "rebalances", "commits", "no tasks",
    ],
)  # fmt: skip
def test_what_may_take_long_is_no_trouble(told: Told, reports: list[Report]) -> None:
    assert [seconds for seconds, _ in told.keep(600, *reports) if seconds > 2] == []
