"""Timers of a task that failed, and what its policies make of them: tried again, or left out."""

from __future__ import annotations

from kstream.errors import KStreamError, ResultFailed, TimerFailed
from kstream.operators.closing import TooManyDue
from kstream.operators.process import Process
from kstream.operators.timed_agents import processor_of
from kstream.plan import TaskPlan
from kstream.runtime.task.deciding import Deciding
from kstream.runtime.task.overdue import Overdue
from kstream.runtime.task.verdicts import Again
from kstream.types import Clock


class FailedTimers:
    """Of one task. What was decided is remembered until the timer is committed; a restart forgets it."""

    def __init__(self, task: str, plan: TaskPlan, clock: Clock, deciding: Deciding | None, overdue: Overdue) -> None:
        self._overdue = overdue
        self._task, self._plan, self._clock, self._deciding = task, plan, clock, deciding
        self._processors = plan.processors
        self._again: dict[tuple[str, bytes], Again] = {}
        self._failed: dict[tuple[str, bytes], TimerFailed] = {}  # those

    @property
    def rests(self) -> Again | None:
        """The timer that the task waits for, to try it again: it takes no record before."""
        last = self._last
        return None if last is None else self._again[last]

    @property
    def waits_for(self) -> tuple[TimerFailed, float] | None:
        """What became of that timer, and in how many seconds it is tried again."""
        if (last := self._last) is None:
            return None
        return self._failed[last], self._again[last].due - self._clock.monotonic()

    @property
    def _last(self) -> tuple[str, bytes] | None:
        if not self._again:
            return None
        last = max(self._again, key=lambda one: self._again[one].due)
        return last if self._clock.monotonic() < self._again[last].due else None

    def decide(self, error: ResultFailed) -> bool:
        """Whether the task goes on after this."""
        if isinstance(error, TooManyDue):
            self._overdue.begin(error)
            return True
        if not isinstance(error, TimerFailed) or self._deciding is None:
            return False
        one = (error.processor, error.entry)
        again = self._again.pop(one, None) or Again()
        verdict = self._deciding.decide_timer(error, self._plan, self._task, self._node(error.processor), again)
        if verdict is None:
            return False
        if verdict is again:
            self._again[one], self._failed[one] = again, error
            self._operator(error.processor).rests_until = again.due
        else:
            self._operator(error.processor).skipped.add(error.entry)
        error.goes_on = True
        return True

    def located(self, error: ResultFailed) -> KStreamError:
        found = KStreamError(f"task {self._task}: {error}")
        found.__cause__ = error
        return found

    def committed(self) -> None:
        """All that was due has been fired, unless the task rests."""
        if self.rests is not None:
            return
        self._again, self._failed = {}, {}
        for operator in self._processors:
            operator.skipped.clear()

    def _operator(self, processor: str) -> Process:
        return next(one for one in self._processors if one.name == processor and one.has_timers)

    def _node(self, processor: str) -> int:
        one = self._operator(processor)
        return next(node for node, other in enumerate(self._plan.operators) if processor_of(other) is one)
