"""Event time that jumps over more timers than fire in a row: it goes on from timer to timer, and its worker does other
things in between. One record with an early time before those of today may hold years for a timer that sets itself each
second; fired at once they would keep the worker from its commits until its group gave it up, and whoever took over
after it.

Where it can be told before that many timers are due (those of many keys), time goes by pieces from the start, and
nothing is taken back. Of one that sets itself again it shows when so many have fired.

Time that has been gone through is committed like any other (what a restart finds is a failure-free run up to there), so
each timer fires once, before the record that moves time to where it is due.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from kstream.operators.closing import DueFirst, TooManyDue
from kstream.operators.marks import Marks
from kstream.plan import TaskPlan
from kstream.specs.ttl import FOREVER
from kstream.types import Fetch

log = logging.getLogger(__name__)

PIECE: Final = 1000
"""Timers after which the loop turns. A commit comes at its own times."""


class Overdue:
    """Of one task. False unless time is to go on by pieces: until it is where it was when too many were due."""

    def __init__(self, task: str, plan: TaskPlan) -> None:
        self._task, self._plan = task, plan
        self._processors = plan.processors
        self._until: int | None = None
        self._to = 0  # where the next piece goes
        self._width = 1  # ms that time goes on at once, so that other operators need not be told of each timer
        self._rows = 0  # before the record that moves time there
        if plan.watermark is not None and any(one.has_timers for one in self._processors):
            plan.watermark.goes_by_pieces = self._goes_by_pieces
            for source in plan.sources.values():
                source.due_first = self._look_at

    def __bool__(self) -> bool:
        return self._until is not None

    @property
    def behind(self) -> bool:
        """Whether time has yet to go where its inputs are, without a record."""
        mark = self._plan.watermark
        return self._until is not None and mark is not None and mark.target > mark.now

    def begin(self, error: TooManyDue) -> None:
        """What was done since the last commit, or by the batch at hand, is taken back next."""
        if self._until is None:
            log.warning("task %s: %s", self._task, error, extra={"task": self._task})
        self.start(error.before)

    def start(self, before: int, rows: int = 0) -> None:
        """Time goes by pieces until it is there; so many records of what comes next are processed first."""
        mark = self._plan.watermark
        assert mark is not None
        self._until, self._rows = max(before, self._until or before), rows
        self._width, mark.limit = 1, mark.committed_now

    def _has_many_due(self, before: int) -> bool:
        return any([one.has_many_due(before) for one in self._processors])

    def _look_at(self, times: Sequence[int]) -> None:
        """Records are processed next, at these times of the task, which never go back. Raises DueFirst."""
        if times and self._has_many_due(times[-1]):
            row = bisect_left(times, True, key=self._has_many_due)
            raise DueFirst(times[row], row)

    def _goes_by_pieces(self, time: int) -> bool:
        """Event time is to go there, without a record."""
        if self._until is None and self._has_many_due(time):
            self.start(time)
            return True
        return False

    def aim(self, fetch: Fetch | None) -> int:
        """How many records of what comes next may be processed, where there is any; 0: time goes on first, by
        `flush`."""
        mark = self._plan.watermark
        assert mark is not None and self._until is not None
        if mark.target > mark.now:
            self._to = mark.target
            return 0
        if mark.now >= self._until:
            self._until, self._rows, mark.limit = None, 0, FOREVER
            return 1 if fetch is None else len(fetch)
        if fetch is None:
            return 1
        if isinstance(fetch, Marks):
            return len(fetch)
        if self._rows:
            rows, self._rows = self._rows, 0
            return min(rows, len(fetch))
        source = self._plan.sources[fetch.at.topic]
        try:
            (time,) = mark.would_be(source.topic.name, source.timestamps(fetch.cut(0, 1)))
        except Exception:
            return 1  # it fails where it is processed
        if time <= mark.now or self._due(time) is None:  # as it is now, what is set for the past waits
            return 1
        self._to = time
        return 0

    def _due(self, before: int) -> int | None:
        found = [due for one in self._processors if (due := one.due_by(before)) is not None]
        return min(found, default=None)

    def flush(self) -> None:
        """Time goes on by a piece."""
        mark, fired = self._plan.watermark, 0
        assert mark is not None
        self._stepwise(True)
        try:
            while fired < PIECE and mark.now < self._to:
                due = self._due(self._to)
                at = self._to if due is None else min(self._to, max(due + 1, mark.now + self._width))
                some = sum([one.fire_some(at, PIECE) for one in self._processors])
                fired += some
                if self._due(at) is not None:
                    self._width = max(1, self._width // 2)
                    continue
                if some < PIECE // 4:
                    self._width = min(FOREVER, self._width * 2)
                mark.go_to(at)
                for source in self._plan.sources.values():
                    source.time_passed()
        finally:
            self._stepwise(False)

    def _stepwise(self, on: bool) -> None:
        for one in self._processors:
            one.stepwise = on
