"""What a worker says of itself: its state, its tasks, all its series. Read out of its counts; nothing is kept here."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, TypeVar

from kstream.config.budget import SHARES, share
from kstream.observe import logs
from kstream.observe.catalogue import Metric, Series
from kstream.observe.status import NOBODY, InputStatus, TaskStatus
from kstream.observe.throttle import Throttle
from kstream.operators.dropping import LEFT_OUT, NO_KEY
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.process.behind import seconds_behind
from kstream.runtime.process.garbage import GarbageCollection, process_name
from kstream.runtime.process.report import Report, one_line
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.process.taskseries import task_series
from kstream.runtime.task.measures import Measures, PartMeasures, StoreMeasures
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.loop import StreamWorker

log = logging.getLogger(__name__)
log.addFilter(Throttle())

T = TypeVar("T")

SHOWN_KEY: Final = 80
HOTTEST: Final = 5
"""Keys used most that are told of each store."""


class Telling:
    """Nothing that only observes may end a worker: what cannot be told is left out, counted (`errors_total`, phase
    report) and logged now and then."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def of(self, what: str, tell: Callable[[], T], otherwise: T) -> T:
        try:
            return tell()
        except Exception as error:  # user code and codecs are among what is asked: anything may come
            self.failed(what, error)
            return otherwise

    def all_of(self, what: str, tell: Callable[[], Iterable[Series]]) -> list[Series]:
        """What can be told of series; JSON has no infinity, and no number that is none."""
        none: list[Series] = []
        return [one for one in self.of(what, lambda: list(tell()), none) if math.isfinite(one.value)]

    def failed(self, what: str, error: Exception) -> None:
        self._measures.failed("report", error)
        log.error("%s cannot be reported: %s: %s", what, type(error).__name__, one_line(error))


def report_of(worker: StreamWorker, sizes: StoreSizes) -> Report:
    telling = Telling(worker.measures)
    tasks = [
        telling.of(f"task {task.name}", partial(_status_of, worker, task), _bare_status(worker, task))
        for task in worker.tasks.values()
    ]
    tasks += [
        TaskStatus(name, worker.worker.name, "waiting", why=f"its inputs {', '.join(missing)} are elsewhere")
        for name, missing in worker.registry.elsewhere.items()
    ]
    measures, restorer = worker.measures, worker.restorer
    metrics = series_of(worker, tasks, sizes, telling)
    keys = _Keys(worker, telling)
    checkpoints = list(measures.last_checkpoints)
    measures.last_checkpoints.clear()
    snapshots = list(worker.snapshot_counts.last)
    worker.snapshot_counts.last.clear()
    return Report(
        records=worker.records,
        produced=sum(worker.transaction.produced.values()),
        commits=worker.commits,
        aborts=worker.aborts,
        lag=sum(task.lag for task in tasks),
        restoring=len(restorer),
        restore_remaining=restorer.replay.remaining(),
        restored=restorer.replay.records,
        restored_bytes=restorer.replay.bytes,
        restore_seconds_left=restorer.replay.seconds_left(),
        restore_bytes_left=restorer.replay.remaining_bytes(),
        warm=len(worker.warm),
        warm_behind=worker.warm.behind(),
        partitions=len(worker.registry.owned),
        joined=worker.measures.rebalances > 0,
        member=worker.is_member,
        loading=worker.tables.waits,
        alone=clients.statistics.alone_for() if isinstance(clients := worker.parts.clients, KafkaClients) else None,
        uncommitted=worker.uncommitted,
        paused=worker.paused,
        elapsed=worker.elapsed,
        worked=max(0.0, worker.elapsed - measures.idle),
        tasks=tasks,
        gone=[
            TaskStatus(f"{part.name}/{partition}", NOBODY, TaskState.FAILED.value, error=error)
            for part, partition, error in worker.inputs.tasks_without()
        ],
        tables=telling.of("its global tables", partial(worker.tables.told, worker.worker.name), []),
        metrics=metrics,
        estimated=sizes.estimated,
        checkpoints=checkpoints,
        snapshots=snapshots,
        largest=_largest(worker, keys),
        hottest=_hottest(worker, keys),
        parts=sizes.parts,
    )


def _status_of(worker: StreamWorker, task: Task) -> TaskStatus:
    lags, timestamps, (event_time, seen) = worker.lags_of(task), task.reading.timestamps, task.ageing.seen()
    inputs = []
    for at, position in task.positions.items():
        event, idle = seen.get(at.topic, (None, False))
        times = _seconds(timestamps[at]), _seconds(event)
        behind = seconds_behind(worker, task, at) if lags.get(at) else None
        inputs.append(InputStatus(at.topic, at.partition, position, lags.get(at), *times, idle, behind))
    return TaskStatus(
        task.name,
        worker.worker.name,
        task.state.value,
        records=task.records,
        lag=sum(lags.values()) - worker.registry.waiting_lag(task),
        buffered=task.buffered,
        why=_why(worker, task),
        at_end=task.reading.at_end and not task.buffered and not task.busy,
        retrying=worker.now < task.rests_until or task.handling.waits_for is not None,
        error=None if task.error is None else one_line(task.error),
        inputs=inputs,
        event_time=_seconds(event_time),
    )


def _bare_status(worker: StreamWorker, task: Task) -> TaskStatus:
    return TaskStatus(task.name, worker.worker.name, task.state.value)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _why(worker: StreamWorker, task: Task) -> str | None:
    """Why a task does nothing, where that is known."""
    if task.state is TaskState.RESTORING:
        return worker.restorer.stages().get(task.name)
    if task.state is TaskState.SUSPENDED:
        return "its worker has no place in its group: partitions are being assigned, or Kafka does not answer"
    if task.state is not TaskState.RUNNING:
        return None
    if worker.paused:
        return "paused by an operator"
    if task.busy:
        where = "" if task.working is None else f", at {task.working.at} from offset {task.working.first_offset}"
        return f"agent {', '.join(map(repr, task.awaiting))} waits for something outside{where}"
    if (timer := task.handling.timers.waits_for) is not None:
        return f"a timer that failed is tried again in {timer[1]:.0f} s: {one_line(timer[0])}"
    if (result := task.handling.results.waits_for) is not None:
        return f"a result that failed is tried again in {result[1]:.0f} s: {one_line(result[0])}"
    if (why := worker.tables.why(task)) is not None:
        return why
    left = task.rests_until - worker.now
    if left > 0:
        return f"a record that failed is tried again in {left:.0f} s"
    reading = task.reading
    if reading.delays and reading.at_end and not task.buffered and (waiting := reading.waiting):
        return (
            f"the first of the records that were set aside is tried again in {min(waiting.values()) - worker.now:.0f} s"
        )
    if task.reading.at_end and not task.buffered and any(worker.lags_of(task).values()):
        return "what is left belongs to a transaction of its producer that is still open"
    missing = task.reading.missing
    return f"waits for records of {', '.join(map(str, missing))}" if missing else None


def series_of(worker: StreamWorker, tasks: list[TaskStatus], sizes: StoreSizes, telling: Telling) -> list[Series]:
    """All series of the engine in this worker, named as in the catalogue."""
    series = telling.all_of("the worker", lambda: _worker_series(worker))
    if worker.snapshots is not None:
        series += telling.all_of("its snapshots", worker.snapshot_counts.series)
    series += telling.all_of("its global tables", worker.tables.series)
    series += telling.all_of("its tasks", lambda: task_series(worker, tasks))
    for part in worker.measures.parts.values():
        series += telling.all_of(f"sub-topology {part.name}", partial(_part_series, worker, part))
    return series + telling.all_of("its stores", lambda: _store_series(worker, sizes))


def _worker_series(worker: StreamWorker) -> Iterator[Series]:
    measures, restorer, name = worker.measures, worker.restorer, worker.worker.name
    yield Series("worker_idle_seconds_total", (name,), measures.idle)
    yield Series("worker_backpressured_seconds_total", (name,), worker.backpressured)
    busy = worker.elapsed - measures.idle - worker.backpressured
    yield Series("worker_busy_seconds_total", (name,), max(0.0, busy))
    yield Series("checkpoints_total", (), worker.commits)
    yield measures.checkpoints.series("checkpoint_duration_seconds")
    for reason, count in measures.checkpoint_failures.items():
        yield Series("checkpoint_failures_total", (reason,), count)
    yield Series("checkpoint_last_success_timestamp_seconds", (name,), measures.committed_at)
    yield Series("transaction_aborts_total", (), worker.aborts)
    yield Series("producer_restarts_total", (), measures.producer_restarts)
    yield Series("uncommitted_records", (), worker.uncommitted)
    yield Series("rebalances_total", (), measures.rebalances)
    yield measures.rebalance.series("rebalance_duration_seconds")
    yield Series("assigned_partitions", (), len(worker.registry.owned))
    for (phase, name), count in measures.errors.items():
        yield Series("errors_total", (phase, name), count)
    yield from _decided(measures)
    yield Series("restore_remaining_records", (), restorer.replay.remaining())
    left = restorer.replay.seconds_left()
    if left is not None:
        yield Series("restore_remaining_seconds", (), left)
    size = restorer.replay.remaining_bytes() if restorer.replay else 0
    if size is not None:
        yield Series("restore_remaining_bytes", (), size)
    yield Series("restored_records_total", (), restorer.replay.records)
    yield Series("restored_bytes_total", (), restorer.replay.bytes)
    yield Series("warm_copies", (), len(worker.warm))
    yield Series("warm_behind_records", (), worker.warm.behind())
    yield Series("warm_records_total", (), worker.warm.replay.records)
    dropped = Counter(dict.fromkeys(LEFT_OUT, 0))  # each reason is there from the start
    dropped[NO_KEY] += worker.tables.left_out
    for part in measures.parts.values():
        dropped.update(part.dropped)
    for task in worker.tasks.values():
        for operator in task.plan.operators:
            dropped.update(operator.dropped)
    for reason, count in dropped.items():
        yield Series("records_dropped_total", (reason,), count)
    yield restorer.durations.series("restore_duration_seconds")
    for topic, count in list(worker.transaction.produced.items()):
        yield Series("records_produced_total", (topic,), count)


def _decided(measures: Measures) -> Iterator[Series]:
    for name, counts in (
        ("dead_letters_total", measures.dead_letters),
        ("records_skipped_total", measures.skipped),
        ("records_retried_total", measures.retried),
    ):
        for (topic, reason), count in counts.items():
            yield Series(name, (topic, reason), count)


def _part_series(worker: StreamWorker, part: PartMeasures) -> Iterator[Series]:
    for topic, count in part.consumed.items():
        yield Series("records_consumed_total", (topic,), count)
        yield Series("records_committed_total", (topic,), part.committed[topic])
        yield part.latency[topic].series("record_e2e_latency_seconds", topic)
        yield part.delay[topic].series("record_delay_seconds", topic)
    yield part.processing.series("record_processing_seconds", part.name)
    emitted, slow = list(part.emitted), part.slow
    for task in worker.tasks.values():
        if task.measures is part:
            slow += task.slow.batches
            for index, operator in enumerate(task.plan.operators):
                emitted[index] += operator.emitted
    for name, count in zip(part.operators, emitted, strict=True):
        yield Series("operator_records_total", (part.name, name), count)
    for name, count in zip(part.operators, part.failed, strict=True):
        yield Series("operator_failures_total", (part.name, name), count)
    yield Series("slow_batches_total", (part.name,), slow)
    yield Series("task_retries_total", (part.name,), part.retries)


def _store_series(worker: StreamWorker, sizes: StoreSizes) -> Iterator[Series]:
    for use, size in worker.parts.memory_use().items():
        yield Series("rocksdb_memory_bytes", (use,), size)
    measured = sizes.of(worker)
    for name, (part, store) in _stores(worker).items():
        hits, misses, large, expired, overlay = store.hits, store.misses, store.large, store.expired, 0
        for task in worker.tasks.values():
            if task.measures is part:
                hits += task.stores[name].hits
                misses += task.stores[name].misses
                large += task.stores[name].large.seen
                expired += task.stores[name].expired
                overlay += task.stores[name].overlay_bytes
        yield Series("state_cache_hits_total", (name,), hits)
        yield Series("state_cache_misses_total", (name,), misses)
        yield Series("state_large_entries_total", (name,), large)
        yield Series("state_expired_total", (name,), expired)
        yield Series("state_overlay_bytes", (name,), overlay)
        yield store.sizes.series("state_entry_bytes", name)
        if name in measured:
            yield Series("state_entries", (name,), measured[name].entries)
            yield Series("state_size_bytes", (name,), measured[name].size)
            for one in measured[name].parts:
                labels = name, str(one.partition)
                yield Series("task_state_entries", labels, one.entries)
                yield Series("task_state_size_bytes", labels, one.size)
        for key_share in store.hitters.top(1):
            yield Series("state_hottest_key_ratio", (name,), key_share[1])


def _stores(worker: StreamWorker) -> dict[str, tuple[PartMeasures, StoreMeasures]]:
    return {
        name: (part, store) for part in worker.measures.parts.values() for name, store in part.stores.items()
    }  # fmt: skip


class _Keys:
    """Keys of stores as the user knows them; one that cannot be read back, as it lies there."""

    def __init__(self, worker: StreamWorker, telling: Telling) -> None:
        self._telling = telling
        self._codecs = {store.name: store.key.codec for part in worker.parts.topology.parts for store in part.stores}

    def shown(self, store: str, key: bytes) -> str:
        decode = self._codecs[store].decode
        decoded = self._telling.of(f"a key of store {store}", lambda: repr(decode(key)), repr(key))
        return decoded[:SHOWN_KEY]


def _memory_series(worker: StreamWorker, queued: Mapping[str, float]) -> Iterator[Series]:
    """The budget of a worker, beside what it takes of each share. `queued`: bytes in its clients, by their kind."""
    name, settings = worker.worker.name, worker.parts.settings
    stores = [store for task in worker.tasks.values() for store in task.stores.values()]
    stores += worker.tables.stores.values()
    used: dict[str, float] = {
        "state": sum(worker.parts.memory_use().values()) + sum(store.cached_bytes for store in stores),
        "overlay": sum(store.overlay_bytes for store in stores),
    }
    if queued:
        used |= {"fetch": queued.get("consumer", 0) + queued.get("reader", 0), "producer": queued.get("producer", 0)}
    yield Series("memory_budget_bytes", (name, "all"), settings.memory)
    for part in SHARES:
        yield Series("memory_budget_bytes", (name, part), share(settings, part))
    for part, size in used.items():
        yield Series("memory_used_bytes", (name, part), size)


def _largest(worker: StreamWorker, keys: _Keys) -> dict[str, list[tuple[str, int]]]:
    return {
        name: [(keys.shown(name, key), size) for key, size in sorted(store.largest.items(), key=lambda one: -one[1])]
        for name, (_, store) in _stores(worker).items()
        if store.largest
    }


def _hottest(worker: StreamWorker, keys: _Keys) -> dict[str, list[tuple[str, float, int]]]:
    return {
        name: [(keys.shown(name, key), share, store.hitters.seen) for key, share in store.hitters.top(HOTTEST)]
        for name, (_, store) in _stores(worker).items()
        if store.hitters.seen
    }


def series_besides(collections: GarbageCollection, worker: StreamWorker) -> tuple[list[Metric], list[Series]]:
    """What a worker's process counts besides the engine: the user's metrics, librdkafka, log lines, the collector."""
    defined, series = worker.worker.metrics.collect()
    if isinstance(worker.parts.clients, KafkaClients):
        series += worker.parts.clients.statistics.collect()
    series += _memory_series(worker, {one.labels[0]: one.value for one in series if one.name == "kafka_queued_bytes"})
    series += [Series("log_lines_total", (level,), count) for level, count in logs.counts().items()]
    return defined, series + collections.collect(process_name(worker.worker.name))
