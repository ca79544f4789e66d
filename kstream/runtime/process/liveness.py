"""Whether a worker that reports does its work: what keeps it from it, and for how long.

Judged by its reports. What may take long by its nature is no trouble: a pause, a restore, a rebalance of others, a task
that has failed and waits for its next try.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kstream.observe.status import TaskStatus
from kstream.runtime.process.report import Report


class Trouble(NamedTuple):
    """`seconds`: for how long so far; `task`: which one does not move, where it is about one; `of_group`: others of the
    group may be what it waits for."""

    seconds: float
    text: str
    task: str | None = None
    of_group: bool = False


MOMENT: Final = 3.0
"""Seconds for which every task may wait in the course of its work: for a commit of its producer, for another input, for
an agent that awaits. Less is not worth a word."""


class Stalls:
    """Finds tasks that have lag and do not move: a stall is visible (docs/exactly-once.md)."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._moved: dict[str, tuple[tuple[int, ...] | None, float]] = {}  # None: it did not run
        self._still: dict[str, float] = {}  # since when
        self._here: dict[str, float] = {}  # since when a task that runs is where it is, lag or not

    def look(self, now: float, tasks: Iterable[TaskStatus], paused: bool) -> None:
        moved, stills, here = {}, {}, {}
        for task in tasks:
            positions = tuple(one.position for one in task.inputs)
            before, since = self._moved.get(task.name, (None, now))
            runs = task.state == "running" and not task.retrying and not paused
            still = task.lag > 0 and runs and before == positions
            moved[task.name] = (positions if runs else None), (since if still else now)
            if still:
                stills[task.name] = since
            if runs:
                here[task.name] = self._here.get(task.name, now) if before == positions else now
        self._moved, self._still, self._here = moved, stills, here

    def moves(self, task: str, now: float) -> bool:
        """Whether it runs and moved a moment ago: what it waits for now is nothing to be told."""
        since = self._here.get(task)
        return since is not None and now - since < min(MOMENT, self._timeout)  # a stall has its reason

    def stalled(self, now: float) -> dict[str, float]:
        """By task: for how many seconds."""
        return {task: now - since for task, since in self._still.items() if now - since >= self._timeout}


class Liveness:
    """That of one worker process. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._stalls = Stalls(0.0)
        self._whys: dict[str, str | None] = {}
        self._commits = 0
        self._uncommitted: float | None = None  # since when there is something that is not committed
        self._failed: str | None = None  # how the last commit failed, since one succeeded
        self._out: float | None = None  # since when it has no place in its group

    def begin(self, now: float) -> None:
        """The process starts."""
        self.__init__()  # type: ignore[misc]
        self._out = now

    def hear(self, report: Report, now: float) -> None:
        tasks = [task for task in report.tasks if not task.at_end]
        self._whys = {task.name: task.why for task in tasks}
        self._stalls.look(now, tasks, report.paused)
        self._hear_commits(report, now)
        if report.member or report.loading:
            self._out = None
        elif self._out is None:
            self._out = now

    def _hear_commits(self, report: Report, now: float) -> None:
        failed = [one.error for one in report.checkpoints if one.error is not None]
        if report.commits != self._commits:
            self._commits, self._uncommitted, self._failed = report.commits, None, None
        if failed:
            self._failed = failed[-1]
        idle = not report.uncommitted and (self._failed is None or _has_failed(report.tasks))
        if report.paused or not report.member or idle:
            self._uncommitted = self._failed = None
        elif self._uncommitted is None:
            self._uncommitted = now

    def troubles(self, now: float) -> Sequence[Trouble]:
        """All there is, however short so far."""
        found = []
        if self._out is not None:
            found.append(Trouble(now - self._out, "has had no place in its consumer group", of_group=True))
        if self._uncommitted is not None:
            why = "" if self._failed is None else f": {self._failed}"
            found.append(Trouble(now - self._uncommitted, f"has processed records and has not committed{why}"))
        for task, seconds in self._stalls.stalled(now).items():
            why = self._whys.get(task) or "the reason is not known"
            found.append(Trouble(seconds, f"task {task} has lag and has not moved: {why}", task))
        return found


def _has_failed(tasks: Iterable[TaskStatus]) -> bool:
    return any(task.state == "failed" for task in tasks)
