"""What the reports of an instance's workers say together: its tasks, workers, stores, restores and totals.

Nothing is kept here. The observer, which is fed, has the lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from kstream.observe.merging import Merged
from kstream.observe.status import (
    AppPoint,
    PartStatus,
    Point,
    RestoreStatus,
    StoreStatus,
    TableStatus,
    TaskStatus,
    Totals,
    WorkerStatus,
)
from kstream.runtime.process.garbage import process_name
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.liveness import Stalls
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view.history import History
from kstream.runtime.view.holdups import explained, held_up
from kstream.runtime.view.watched import Watched
from kstream.topology import Topology

LARGEST: Final = 5

Largest = Mapping[str, Mapping[str, Sequence[tuple[str, int]]]]
"""Worker -> store -> the largest entries it saw written: key, bytes."""
Hottest = Mapping[str, Mapping[str, Sequence[tuple[str, float, int]]]]
"""Worker -> store -> the keys used most: key, share, of how many."""


class Picture:
    """See the module's text."""

    def __init__(self, watched: Watched, topology: Topology, history: History, merged: Merged, stalls: Stalls) -> None:
        self._watched, self._topology = watched, topology
        self._history, self._merged, self._stalls = history, merged, stalls
        self._internal = _internal_topics(topology)

    def tasks(self) -> list[TaskStatus]:
        """As they were reported, with why they do not move; and those that no worker can have, once each."""
        now = time.monotonic()
        runs = [worker for worker in self._watched.workers if worker.runs]
        tasks = [task for worker in runs for task in explained(worker, now, self._stalls.moves)]
        gone = {task.name: task for worker in runs for task in worker.report.gone}
        if not gone:
            return tasks
        failed = {task.name for task in tasks if task.state == "failed"}  # they know better why
        tasks = [task for task in tasks if task.name not in gone or task.name in failed]
        return tasks + [task for name, task in gone.items() if name not in failed]

    def rated_tasks(self) -> list[TaskStatus]:
        """Tasks with rates and shares of the last seconds; those that stall say so."""
        busy, backpressured = (
            self._history.rates("busy_seconds_total"),
            self._history.rates("backpressured_seconds_total"),
        )
        records = self._history.rates("task_records_total")
        stalled = self._stalls.stalled(time.monotonic())
        tasks = []
        for task in sorted(self.tasks(), key=_order):
            labels = (task.name,)
            why = task.why
            if task.name in stalled:
                why = f"has not moved for {stalled[task.name]:.0f} s: {why or 'the reason is not known'}"
            tasks.append(
                msgspec.structs.replace(
                    task,
                    rate=records.get(labels, 0.0),
                    busy=min(1.0, busy.get(labels, 0.0)),
                    backpressured=min(1.0, backpressured.get(labels, 0.0)),
                    why=why,
                )
            )
        return tasks

    def workers(self, tasks: Sequence[TaskStatus]) -> Iterator[WorkerStatus]:
        """`tasks` are the rated ones."""
        for worker in self._watched.workers:
            yield self._worker(worker, [task for task in tasks if task.worker == worker.name])

    def _worker(self, worker: WorkerProcess, own: Sequence[TaskStatus]) -> WorkerStatus:
        labels, now, runs = (worker.name,), time.monotonic(), worker.runs
        shares = {
            share: min(1.0, self._history.rates(f"worker_{share}_seconds_total").get(labels, 0.0))
            for share in ("busy", "idle", "backpressured")
        }
        process = process_name(worker.name)
        cpu = self._history.rates("process_cpu_seconds_total").get((process,))
        memory = self._merged.value("process_resident_memory_bytes", {"process": process})
        budget = self._merged.value("memory_budget_bytes", {"worker": worker.name, "share": "all"})
        return WorkerStatus(
            name=worker.name,
            group=worker.group,
            state=state_of(worker),
            pid=worker.pid,
            started=time.time() - (now - worker.started) if runs else None,
            restarts=worker.restarts,
            last_error=worker.last_error,
            restart_in=max(0.0, worker.start_at - now) if worker.start_at is not None else None,
            rate=sum(task.rate for task in own),
            tasks=len(own),
            partitions=worker.report.partitions if runs else 0,
            cpu=cpu,
            memory=None if memory is None else int(memory),
            budget=None if budget is None else int(budget),
            why=held_up(worker, now),
            **shares,
        )

    def stores(self, largest: Largest, hottest: Hottest) -> list[StoreStatus]:
        stores = []
        estimated = {name for worker in self._watched.workers if worker.runs for name in worker.report.estimated}
        for part in self._topology.parts:
            for store in part.stores:
                labels = {"store": store.name}
                entries = {
                    key: size
                    for worker in self._watched.workers
                    for key, size in largest.get(worker.name, {}).get(store.name, ())
                }
                stores.append(
                    StoreStatus(
                        store.name,
                        part.name,
                        entries=int(self._merged.value("state_entries", labels) or 0),
                        size=int(self._merged.value("state_size_bytes", labels) or 0),
                        hits=int(self._merged.value("state_cache_hits_total", labels) or 0),
                        misses=int(self._merged.value("state_cache_misses_total", labels) or 0),
                        largest=sorted(entries.items(), key=lambda one: -one[1])[:LARGEST],
                        estimated=store.name in estimated,
                        hottest=_merged([of.get(store.name, ()) for of in hottest.values()]),
                        growth=self._history.growth(store.name),
                        tasks=self._parts(store.name),
                    )
                )
        return stores

    def _parts(self, store: str) -> list[PartStatus]:
        runs = (worker for worker in self._watched.workers if worker.runs)
        return sorted(
            (part for worker in runs for part in worker.report.parts.get(store, ())), key=lambda part: part.partition
        )

    def tables(self) -> list[TableStatus]:
        """The global tables of the workers that run."""
        return [one for worker in self._watched.workers if worker.runs for one in worker.report.tables]

    def restore(self) -> RestoreStatus:
        reports = [worker.report for worker in self._watched.workers if worker.runs]
        left = [report.restore_seconds_left for report in reports if report.restore_seconds_left is not None]
        sizes = [report.restore_bytes_left for report in reports if report.restore_bytes_left is not None]
        return RestoreStatus(
            tasks=sum(report.restoring for report in reports),
            remaining=sum(report.restore_remaining for report in reports),
            restored=sum(report.restored for report in reports),
            seconds_left=max(left, default=None),
            bytes_left=sum(sizes) if sizes else None,
            warm=sum(report.warm for report in reports),
            warm_behind=sum(report.warm_behind for report in reports),
            stages={task.name: task.why or "" for task in self.tasks() if task.state == "restoring"},
        )

    def totals(self, restarts: int) -> Totals:
        history = self._history
        shares = {
            share: min(1.0, history.rate(f"worker_{share}_seconds_total") / max(1, len(self._watched.workers)))
            for share in ("busy", "idle", "backpressured")
        }
        return Totals(
            consumed=int(self._external(history.totals("records_consumed_total"))),
            committed=int(self._external(history.totals("records_committed_total"))),
            produced=int(self._external(history.totals("records_produced_total"))),
            rate_in=self._external(history.rates("records_consumed_total")),
            rate_out=self._external(history.rates("records_produced_total")),
            bytes_in=history.rate("consumed_bytes_total"),
            bytes_out=history.rate("produced_bytes_total"),
            lag=sum(task.lag for task in self.tasks()),
            latency_p50=history.latency(0.5),
            latency_p99=history.latency(0.99),
            checkpoints=int(history.total("checkpoints_total")),
            checkpoint_failures=int(history.total("checkpoint_failures_total")),
            aborts=int(history.total("transaction_aborts_total")),
            rebalances=int(history.total("rebalances_total")),
            restarts=restarts,
            errors=int(history.total("errors_total")),
            processing_p99=history.processing(0.99),
            **shares,
        )

    def _external(self, by_topic: Mapping[tuple[str, ...], float]) -> float:
        """The sum over topics that are not kstream's own (repartition topics, changelogs)."""
        return sum(value for (topic,), value in by_topic.items() if topic not in self._internal)

    def point(self, totals: Totals, others: Iterable[Totals]) -> Point:
        """`others` are the totals of the app's other instances."""
        everyone = [totals, *others]
        return Point(
            at=time.time(),
            rate_in=totals.rate_in,
            rate_out=totals.rate_out,
            lag=totals.lag,
            latency_p50=totals.latency_p50,
            latency_p99=totals.latency_p99,
            busy=totals.busy,
            backpressured=totals.backpressured,
            checkpoint_seconds=self._history.checkpoint_seconds(),
            app=_app_point(everyone) if len(everyone) > 1 else None,
            state_bytes=int(self._merged.value("state_size_bytes", {}) or 0),
            state_entries=int(self._merged.value("state_entries", {}) or 0),
        )


def _merged(of_workers: Iterable[Sequence[tuple[str, float, int]]]) -> list[tuple[str, float]]:
    """Of all workers together, each as much as it has sampled. A key belongs to one of them, or moved."""
    told = [keys for keys in of_workers if keys]
    seen = sum(keys[0][2] for keys in told)
    counts: Counter[str] = Counter()
    for keys in told:
        for key, share, sampled in keys:
            counts[key] += share * sampled  # type: ignore[assignment]
    return [(key, count / seen) for key, count in counts.most_common(LARGEST)]


def _app_point(everyone: Sequence[Totals]) -> AppPoint:
    return AppPoint(
        sum(one.rate_in for one in everyone), sum(one.rate_out for one in everyone), sum(one.lag for one in everyone)
    )


def state_of(worker: WorkerProcess) -> str:
    return "starting" if worker.state is ProcessState.NEW else worker.state.value


def _order(task: TaskStatus) -> tuple[str, int]:
    part, _, partition = task.name.rpartition("/")
    return part, int(partition)


def _internal_topics(topology: Topology) -> set[str]:
    internal = {source.topic.name for part in topology.parts for source in part.sources if source.topic.internal}
    internal |= {delay.topic for part in topology.parts for delay in part.delays}
    return internal | {topology.changelog(store) for part in topology.parts for store in part.stores}
