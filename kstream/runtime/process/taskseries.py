"""The series that a worker has of its tasks and of their inputs and restores, named as in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from kstream.observe.catalogue import Series
from kstream.observe.status import TaskStatus
from kstream.runtime.task.measures import TaskTimes
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import StreamWorker
from kstream.runtime.worker.snapshots.fetching import FetchStage


def task_series(worker: StreamWorker, tasks: list[TaskStatus]) -> Iterator[Series]:
    """`tasks` are those of the worker, as it reports them."""
    states = dict.fromkeys((*(state.value for state in TaskState if state is not TaskState.CLOSED), "waiting"), 0)
    buffered: dict[str, int] = {}
    for task in tasks:
        states[task.state] += 1
        yield Series("task_state", (task.name, task.state), 1)
        yield Series("task_lag_records", (task.name,), task.lag)
        if task.event_time is not None:
            yield Series("event_time_seconds", (task.name,), task.event_time)
        buffered[task.part] = buffered.get(task.part, 0) + task.buffered
        for one in task.inputs:
            labels = one.topic, str(one.partition)
            if task.state != TaskState.RUNNING.value:
                yield Series("input_held", (*labels, task.state), 1)
            if one.lag is not None:  # unknown is not none
                yield Series("consumer_lag_records", labels, one.lag)
                yield Series("consumer_lag_seconds", labels, one.behind or 0.0)
            if one.timestamp is not None:
                yield Series("consumed_timestamp_seconds", labels, one.timestamp)
            if one.event_time is not None:
                yield Series("input_event_time_seconds", (task.part, *labels), one.event_time)
    for state, count in states.items():
        yield Series("tasks", (state,), count)
    for part, count in buffered.items():
        yield Series("buffered_records", (part,), count)
    now = worker.now
    for name, times in worker.measures.times.items():
        yield from _time_series(name, times, now)
    yield from _restore_series(worker)


def _time_series(task: str, times: TaskTimes, now: float) -> Iterator[Series]:
    backpressured = times.backpressured_until(now)
    yield Series("task_records_total", (task,), times.records)
    yield Series("busy_seconds_total", (task,), times.busy)
    yield Series("backpressured_seconds_total", (task,), backpressured)
    yield Series("idle_seconds_total", (task,), max(0.0, times.total(now) - times.busy - backpressured))


def _restore_series(worker: StreamWorker) -> Iterator[Series]:
    restorer = worker.restorer
    queued = {one.task.name for one in restorer.fetches_running if one.stage is FetchStage.WAITING}
    for name in restorer.stages():
        yield Series("task_restoring", (name, "queued" if name in queued else "restoring"), 1)
    for name, left in restorer.replay.remaining_of().items():
        yield Series("task_restore_remaining_records", (name,), left)
    for fetch in restorer.fetches_running:
        yield Series("task_restore_fetched_bytes", (fetch.task.name,), fetch.fetched)
