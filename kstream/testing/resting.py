"""Whether the workers of a TestDriver have come to rest."""

from __future__ import annotations

from collections.abc import Sequence

from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.loop import StreamWorker
from kstream.testing.cluster import MemoryCluster
from kstream.topology import Topology


def joins_travellers(topology: Topology) -> bool:
    """Whether a task reads a repartition topic beside another topic: what it finds hangs on what has arrived there,
    and records arrive with a commit of the tasks before."""
    return any(
        len(part.sources) > 1 and any(source.topic.internal for source in part.sources) for part in topology.parts
    )


def is_searching(workers: Sequence[StreamWorker]) -> bool:
    """A commit failed, and the record at fault is looked for. What no record is behind is put out again by time."""
    return any(
        task.search and not _rests(worker, task) and (task.touched or task.buffered or not task.reading.at_end)
        for worker in workers
        for task in worker.tasks.values()
    )


def has_decided(workers: Sequence[StreamWorker]) -> bool:
    """A result of a commit failed, and the commit is tried again without it."""
    return any(task.handling.results.pending for worker in workers for task in worker.tasks.values())


def progress(workers: Sequence[StreamWorker]) -> list[object]:
    """How far the tasks have come."""
    return [
        (name, task.state, dict(task.positions), task.ageing.times_of(task.inputs[0]))
        for worker in workers
        for name, task in worker.tasks.items()
    ]


def is_idle(workers: Sequence[StreamWorker], cluster: MemoryCluster) -> bool:
    """Whether every input was read to its end and worked off."""
    for worker in workers:
        if len(worker.restorer) or not worker.tasks:
            return False
        if not worker.tables.at_rest(lambda at: cluster.log(at).stable_end):
            return False
        for task in worker.tasks.values():
            if task.state is not TaskState.RUNNING or task.busy:
                return False
            if _rests(worker, task):
                continue
            held = task.reading.waits_for_commits  # what it has is taken then, what it waits for is not there yet
            if not held and (task.buffered or (task.plan.watermark is not None and not task.reading.at_end)):
                return False
            waiting = [at for at in task.positions if at in task.reading.waiting or (held and task.reading.has(at))]
            ends = {at: cluster.log(at).stable_end for at in task.positions if at not in waiting}
            if any(end > task.positions[at] for at, end in ends.items()):
                return False
    return True


def _rests(worker: StreamWorker, task: Task) -> bool:
    """It waits until a record is tried again: `advance` moves it on."""
    return worker.now < task.rests_until
