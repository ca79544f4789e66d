"""Inputs from which nothing comes: they hold back no windows."""

from __future__ import annotations

from typing import Final

from kstream.runtime.worker.tasks import Tasks
from kstream.types import Clock

LOOKS: Final = 10
"""So often within the time after which an input is idle it is looked at."""
REPEAT: Final = 5.0
"""Seconds after which a task says again that it is idle, or through, however long that time is: one that was started
anew behind it waits for no longer."""


class Idling:
    """An input is idle when it has been at its end for so many seconds, as Flink's withIdleness has it: the log's end,
    for records of a transaction that is still open may be early ones. Time in which it is restored, paused or behind
    does not count. A task that is idle says so again and again to those behind it."""

    def __init__(self, tasks: Tasks, clock: Clock, seconds: float) -> None:
        self._tasks, self._clock, self._seconds = tasks, clock, seconds
        self._next = self._again = clock.monotonic()

    def step(self) -> None:
        """Looks, when it is time. What becomes of the idle ones goes with the next commit, and who is through says so
        with it to those behind."""
        for task in self._tasks.running:
            if not task.touched and not task.busy and task.ageing.has_to_tell(task.reading):
                task.touched = True
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next, again = now + min(self._seconds / LOOKS, REPEAT), now >= self._again
        if again:
            self._again = now + min(self._seconds, REPEAT)
        for task in self._tasks.running:
            if task.plan.watermark is None or task.busy:
                continue
            task.plan.watermark.doubt()
            if again and task.ageing.repeat(waiting=task.buffered):
                task.touched = True
            idle = task.reading.idle_since(now - self._seconds)
            lags = self._tasks.lags_of(task) if idle else {}
            quiet = {at: since for at, since in idle.items() if lags.get(at) == 0}
            if any([task.ageing.is_idle(at, since) for at, since in quiet.items()]):
                task.touched = True
            if quiet and not task.buffered and task.ageing.go_by_clock(quiet, carry=again):
                task.touched = True
