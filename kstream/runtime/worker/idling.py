"""Inputs from which nothing comes: they hold back no windows."""

from __future__ import annotations

from typing import Final

from kstream.runtime.task.task import Task
from kstream.runtime.worker.checkpoint import attributed
from kstream.runtime.worker.silence import Quiet, Silence
from kstream.runtime.worker.tasks import Tasks
from kstream.state.watermark import Watermark
from kstream.types import AdminClient, Clock, TopicPartition

LOOKS: Final = 10
"""So often within the time after which an input is idle it is looked at."""
REPEAT: Final = 5.0
"""Seconds after which a task says again that it is idle, or through, however long that time is: one that was started
anew behind it waits for no longer."""


class Idling:
    """An input is idle when it has been at its end for so many seconds, as Flink's withIdleness has it: the log's end,
    for records of a transaction that is still open may be early ones. Time in which it is restored, paused or behind
    does not count, nor does time in which the brokers do not answer. A task that is idle says so again and again to
    those behind it."""

    def __init__(self, tasks: Tasks, admin: AdminClient, clock: Clock, seconds: float) -> None:
        self._tasks, self._clock, self._seconds = tasks, clock, seconds
        self._silence = Silence(admin, clock, seconds)
        self._next = self._again = clock.monotonic()

    def step(self) -> None:
        """Looks, when it is time. What becomes of the idle ones goes with the next commit, and who is through says so
        with it to those behind."""
        for task in self._tasks.running:
            if not task.touched and not task.busy and task.ageing.has_to_tell(task.reading):
                task.touched = True
        now = self._clock.monotonic()
        if now < self._next and not self._silence.has_news:
            return
        self._next, again = now + min(self._seconds / LOOKS, REPEAT), now >= self._again
        if again:
            self._again = now + min(self._seconds, REPEAT)
        marks = {task: task.plan.watermark for task in self._tasks.running if not task.busy}
        timed = [(task, mark, self._quiet(task, mark, now)) for task, mark in marks.items() if mark is not None]
        confirmed = self._silence.confirmed({at: one for *_, quiet in timed for at, one in quiet.items()})
        for task, mark, quiet in timed:
            mark.doubt()
            if again and task.ageing.repeat(waiting=task.buffered):
                task.touched = True
            idle = {at: one.since for at, one in quiet.items() if at in confirmed}
            if any([task.ageing.is_idle(at, since) for at, since in idle.items()]):
                task.touched = True
            if idle and not task.buffered:
                with attributed(task):
                    task.touched = task.ageing.go_by_clock(idle, carry=again) or task.touched

    def _quiet(self, task: Task, mark: Watermark, now: float) -> dict[TopicPartition, Quiet]:
        """Its inputs of which nothing has come for so long, as far as the client knows. Those that are repartition
        topics are not asked for: the tasks before say what there is."""
        quiet = task.reading.idle_since(now - self._seconds)
        lags, positions = self._tasks.lags_of(task) if quiet else {}, task.reads_from
        own = mark.own_inputs
        return {at: Quiet(since, positions[at]) for at, since in quiet.items() if lags.get(at) == 0 and at.topic in own}
