"""Where the time goes, by stages: functions that are called once per batch or commit, with their own time apart from
that of the stages they call.

A stop-watch around such functions costs nothing to speak of, unlike a profiler, which makes every small call per record
look expensive. Time on the thread's processor clock and on the wall clock are both kept: where wall is much longer, the
thread waited (for Kafka, for the GIL, for a free core).
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

WATCHING = "watching state: "
"""What the names of those stages begin with that are there for a look at state only."""
STAGES = [
    # (module, what in it, name shown)
    ("kstream.runtime.worker.loop", "StreamWorker.step", "worker: rest of step"),
    ("kstream.runtime.worker.loop", "StreamWorker._one_turn", "worker: rest of step"),
    ("kstream.runtime.worker.loop", "StreamWorker._poll", "worker: hand fetches to tasks"),
    ("kstream.runtime.worker.recovery", "Recovery.step", "restore: rest"),
    ("kstream.runtime.worker.loop", "StreamWorker._run_tasks", "worker: rest of run_tasks"),
    ("kstream.runtime.worker.committer", "Committer.is_due", "worker: is a commit due"),
    ("kstream.runtime.worker.housekeeping", "Housekeeping.step", "worker: housekeeping"),
    ("kstream.runtime.worker.committer", "Committer.commit", "commit: rest"),
    ("kstream.runtime.process.reporting", "Reporter.report", "observing: reports"),
    ("kstream.runtime.process.reporting", "Reporter._write", "observing: reports, written"),
    ("kstream.runtime.task.measures", "StoreMeasures.wrote", "watching state: sizes of entries"),
    ("kstream.runtime.task.measures", "StoreMeasures.used", "watching state: keys used most"),
    ("kstream.state.large", "Large.look", "watching state: large entries"),
    ("kstream.runtime.task.measures", "PartMeasures.processed", "observing: batches"),
    ("kstream.runtime.task.measures", "Runs.add", "observing: batches"),
    ("kstream.runtime.task.measures", "Runs.committed", "observing: latencies"),
    ("kstream.runtime.kafka.statistics", "Statistics.take", "observing: librdkafka's statistics"),
    ("kstream.runtime.worker.tasks", "Tasks.has_lag", "observing: lag"),
    ("kstream.runtime.task.slow", "SlowRecords.look", "observing: slow records"),
    ("kstream.runtime.task.context", "Context.works_on", "observing: places for log lines"),
    ("kstream.runtime.task.task", "Task.run", "task: run, cut, choose"),
    ("kstream.runtime.task.task", "Task._push", "task: push"),
    ("kstream.runtime.task.task", "Task._finished", "task: finished"),
    ("kstream.runtime.worker.transaction", "Transaction.poll", "producer: delivery reports"),
    ("kstream.runtime.kafka.consumer", "KafkaConsumer.poll", "consumer: poll, consume"),
    ("kstream.runtime.kafka.consumer", "split", "consumer: split into runs"),
    ("kstream.runtime.kafka.fetch", "MessageFetch.values", "column: values"),
    ("kstream.runtime.kafka.fetch", "MessageFetch.keys", "column: keys"),
    ("kstream.runtime.kafka.fetch", "MessageFetch.timestamps", "column: timestamps"),
    ("kstream.operators.batch", "decode_column", "decode values"),
    ("kstream.operators.batch", "decode_keys", "decode keys"),
    ("kstream.operators.batch", "encode_column", "encode values"),
    ("kstream.operators.source", "Source.push_fetch", "source: rest"),
    ("kstream.operators.aggregate", "Aggregate.push", "aggregate: fold loop"),
    ("kstream.operators.aggregate", "Aggregate.flush", "aggregate: flush"),
    ("kstream.operators.async_agent", "AsyncAgent.push", "agent: rest of push"),
    ("kstream.operators.async_agent", "turn", "agent: its loop (and the user's code)"),
    ("kstream.operators.agent", "Results.release", "agent: release results"),
    ("kstream.operators.sink", "Sink.push", "sink: rest"),
    ("kstream.operators.writer", "send_all", "produce outputs"),
    ("kstream.state.store", "Store.load", "store: load (set of keys)"),
    ("kstream.state.store", "Store._fetch", "store: decode what was fetched"),
    ("kstream.state.store", "Store.changed", "store: note changes"),
    ("kstream.state.store", "Store.changed_to", "store: note changes"),
    ("kstream.state.store", "Store.encode_changes", "store: encode changes"),
    ("kstream.state.store", "Store.committed", "store: committed"),
    ("kstream.state.changelog", "Changelog.write", "produce changelog"),
    ("kstream.state.rocksdb", "RocksBackend.multi_get", "rocksdb: multi_get"),
    ("kstream.state.rocksdb", "RocksBackend.write", "rocksdb: write"),
    ("kstream.state.rocksdb.backend", "fill", "rocksdb: sort and fill the batch"),
    ("kstream.runtime.worker.checkpoint", "send_offsets", "commit: send offsets"),
    ("kstream.runtime.worker.checkpoint", "commit_transaction", "commit: Kafka's commit"),
    ("kstream.runtime.worker.replay", "Replay._apply", "restore: apply"),
    ("kstream.runtime.worker.restore", "Restorer._ask_offsets", "restore: ask offsets"),
    ("kstream.runtime.worker.restore", "Restorer._ask_ends", "restore: ask ends"),
]


class Stages:
    """Puts a stop-watch around every stage there is; names that the engine no longer has are left out."""

    def __init__(self) -> None:
        self._spent: dict[str, list[float]] = {}
        self._inner: list[list[float]] = []
        self.missing: list[str] = []
        for module, path, name in STAGES:
            try:
                self._wrap(importlib.import_module(module), path, name)
            except (ImportError, AttributeError):
                self.missing.append(f"{module}.{path}")

    def reset(self) -> None:
        for spent in self._spent.values():
            spent[:] = [0, 0.0, 0.0]
        for inner in self._inner:
            inner[:] = [0.0, 0.0]

    def rows(self) -> list[tuple[str, int, float, float]]:
        """Stage, calls, seconds of wall clock and of the thread's processor time, the longest first."""
        rows = [(name, int(calls), wall, cpu) for name, (calls, wall, cpu) in self._spent.items() if calls]
        return sorted(rows, key=lambda row: -row[2])

    def _wrap(self, module: Any, path: str, name: str) -> None:
        *owners, last = path.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, last, self._watched(getattr(owner, last), self._spent.setdefault(name, [0, 0.0, 0.0])))

    def _watched(self, function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
        wall_clock, cpu_clock, inner = time.perf_counter, time.thread_time, self._inner

        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            mine = [0.0, 0.0]  # spent in stages that this one calls
            inner.append(mine)
            cpu, wall = cpu_clock(), wall_clock()
            try:
                return function(*arguments, **named)
            finally:
                wall, cpu = wall_clock() - wall, cpu_clock() - cpu
                inner.pop()
                spent[0] += 1
                spent[1] += wall - mine[0]
                spent[2] += cpu - mine[1]
                if inner:
                    inner[-1][0] += wall
                    inner[-1][1] += cpu

        return watched
