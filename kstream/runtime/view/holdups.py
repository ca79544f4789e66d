"""Why a worker says nothing, and what that means for its tasks: none of them goes on while its loop stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from kstream.observe.status import TaskStatus
from kstream.runtime.process.handle import WorkerProcess

LATE_SECONDS: Final = 3.0
"""Since a worker's last report: one comes twice a second. Code that keeps the interpreter to itself (a regular
expression, say) does not let its watchdog speak either."""


def held_up(worker: WorkerProcess, now: float) -> str | None:
    """What holds a worker up, or did so a moment ago. `now` is monotonic."""
    if not worker.runs:
        return None
    if worker.held is not None:
        of = "" if worker.held.task is None else f", in task {worker.held.task}"
        return worker.held.words(over=not worker.stands) + of
    late = now - worker.heard
    if worker.report.joined and late > LATE_SECONDS:
        return f"worker {worker.name} has not reported for {late:.0f} s, and the reason is not known"
    return None


def explained(worker: WorkerProcess, now: float, moves: Callable[[str, float], bool]) -> Iterator[TaskStatus]:
    """Its tasks as they were reported. Those that do not move because it is held up say so.

    Args:
        moves: whether a task moved a moment ago (`Stalls.moves`); then nothing holds it up.
    """
    why = held_up(worker, now)
    stands = worker.held is None or worker.stands
    for task in worker.report.tasks:
        waits = task.state in ("restoring", "suspended") or (
            stands and task.state == "running" and (task.lag or task.buffered)
        )
        if why is not None and worker.held is not None and task.name == worker.held.task and worker.stands:
            yield msgspec.structs.replace(task, why=worker.held.words())
        elif why is not None and waits:
            yield msgspec.structs.replace(task, why=f"its worker is held up: {why}")
        elif task.why is not None and moves(task.name, now):
            yield msgspec.structs.replace(task, why=None)
        else:
            yield task
