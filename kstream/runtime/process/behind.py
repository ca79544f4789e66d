"""For how long the next record of an input has waited: the time that a task is behind."""

from __future__ import annotations

from kstream.runtime.task.task import Task
from kstream.runtime.worker.loop import StreamWorker
from kstream.types import TopicPartition


def seconds_behind(worker: StreamWorker, task: Task, at: TopicPartition) -> float | None:
    """Of an input in which something waits; None where that was set aside, and is not due yet.

    A record that was there when the task came here has waited longer than it was seen: how old the record before it is,
    says for how long.
    """
    reading = task.reading
    one, position = reading.inputs[at], task.reads_from[at]
    seconds = one.arrivals.waits(position, worker.now)
    if at in reading.delays:
        return reading.overdue(at, seconds) or None
    if one.timestamp is not None and one.arrivals.were_there(position):
        return max(seconds, worker.parts.clock.time() - one.timestamp / 1000)
    return seconds
