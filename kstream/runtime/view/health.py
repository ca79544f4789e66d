"""Whether an instance lives, is ready, has started: the answers of its probes, with reasons.

Live means that restarting the process would not help more than waiting: the supervisor's loop goes round and no worker
is stuck beyond what the supervisor mends itself. It is green during restores, rebalances and outages of the brokers.
Ready means that every task runs and moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kstream.config import Settings
from kstream.observe.status import Health, TaskStatus
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.liveness import Stalls
from kstream.runtime.process.states import ProcessState

LOOP_SECONDS: Final = 30.0
"""Since the supervisor's loop went round: it does so five times a second."""
SILENT_SECONDS: Final = 30.0
"""Beyond `max_poll_interval`, when the supervisor kills a silent worker itself."""
STANDS_SECONDS: Final = 5.0
"""For which a worker's loop may stand in kstream's own code: in a commit, say, that no broker answers."""
SHOWN: Final = 5
"""Tasks that are named in one reason."""


def live(now: float, beat: float, workers: Iterable[WorkerProcess], settings: Settings) -> Health:
    """`beat` is when the supervisor's loop went round last; times are monotonic."""
    reasons = []
    if now - beat > LOOP_SECONDS:
        reasons.append(f"the supervisor's loop has hung for {now - beat:.0f} s")
    for worker in workers:
        silent = now - worker.heard
        if worker.runs and silent > settings.max_poll_interval + SILENT_SECONDS:
            reasons.append(f"worker {worker.name} has not reported for {silent:.0f} s and could not be killed")
    return Health(not reasons, reasons)


def ready(
    now: float, workers: Iterable[WorkerProcess], tasks: Sequence[TaskStatus], stalls: Stalls, settings: Settings,
    *, stopping: bool, paused: bool,
) -> Health:  # fmt: skip
    """`tasks` are those of the workers that run, with why they do not move."""
    reasons = ["stopping"] if stopping else []
    for worker in workers:
        reasons += _worker_reasons(now, worker, settings)
    reasons += _task_reasons(tasks)
    whys = {task.name: task.why for task in tasks}
    for name, seconds in list(stalls.stalled(now).items())[:SHOWN]:
        why = whys.get(name) or "the reason is not known"
        reasons.append(f"task {name} has lag and has not moved for {seconds:.0f} s: {why}")
    if paused:
        return Health(not reasons, [*reasons, "paused by an operator: no records are processed"])
    return Health(not reasons, reasons)


def _worker_reasons(now: float, worker: WorkerProcess, settings: Settings) -> Iterator[str]:
    name = f"worker {worker.name}"
    if worker.state is ProcessState.RETIRING or _one_more(now, worker, settings):
        return  # one too many, or one more: the others do the work meanwhile
    if not worker.runs:
        if worker.start_at is not None:
            yield f"{name} starts again in {max(0.0, worker.start_at - now):.0f} s: {worker.last_error}"
        else:
            yield f"{name} does not run"
    elif now - worker.heard > _patience(worker, settings):
        why = f": {worker.held.words()}" if worker.held is not None and worker.stands else ""
        yield f"{name} has not reported for {now - worker.heard:.0f} s{why}"
    elif not worker.report.joined:
        yield f"{name} has not joined its group yet{_loads(worker)}"
    elif tables := _tables(worker):
        yield f"{name} has tasks that wait for global tables: {tables}"
    if worker.runs and worker.report.alone is not None:
        seconds = worker.report.alone + now - worker.heard
        yield f"{name} has no connection to any broker of Kafka ({seconds:.0f} s)"
    for trouble in (
        worker.liveness.troubles(now) if worker.runs and now - worker.heard <= settings.stall_timeout else ()
    ):
        if trouble.task is None and trouble.seconds > settings.stall_timeout + settings.commit_interval:
            yield f"{name} {trouble.text} ({trouble.seconds:.0f} s)"
    if worker.spared and worker.runs:
        yield f"{name} would be killed, but Kafka does not answer: it waits"


def _loads(worker: WorkerProcess) -> str:
    tables = _tables(worker) if worker.report.loading else ""
    return f": it reads its global tables first: {tables}" if tables else ""


def _tables(worker: WorkerProcess) -> str:
    """Its global tables that are not read yet."""
    tables = [one for one in worker.report.tables if not one.there]
    return ", ".join(f"{one.name} ({one.why or f'{one.lag} records left'})" for one in tables[:SHOWN])


def _patience(worker: WorkerProcess, settings: Settings) -> float:
    """How long it may say nothing. User code may take its time, Kafka may not."""
    if worker.stands and worker.held is not None and not worker.held.user:
        return min(STANDS_SECONDS, settings.stall_timeout)
    return settings.stall_timeout


def _one_more(now: float, worker: WorkerProcess, settings: Settings) -> bool:
    """Whether it was added because of the load and has not joined yet, which may take a while."""
    new = worker.added and not worker.restarts and worker.state is ProcessState.STARTING
    return new and now - worker.started < settings.stall_timeout


def _task_reasons(tasks: Iterable[TaskStatus]) -> Iterator[str]:
    by_state: dict[str, list[TaskStatus]] = {}
    for task in tasks:
        if task.state != "running":
            by_state.setdefault(task.state, []).append(task)
    for state, found in by_state.items():
        shown = ", ".join(task.name for task in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        why = next((text for task in found if (text := task.error or task.why)), None)
        yield f"{len(found)} task{'s' if len(found) > 1 else ''} {state}: {shown}" + (f" ({why})" if why else "")
