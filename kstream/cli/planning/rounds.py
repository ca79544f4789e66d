"""An app that is sent records and watched: what its workers have used and done when all of them are through."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Final

import psutil

from kstream.cli.planning.sample import Sample, sources_of
from kstream.errors import KStreamError
from kstream.runtime.cluster.writing import write_record
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.process.handle import WorkerProcess
from kstream.topology import Topology
from kstream.types import ProducerClient

STALLED: Final = 60.0
"""Seconds in which nothing is processed after which it is given up."""
FIRST: Final = 20
GROWTH: Final = 8
ENOUGH: Final = 0.25
"""Seconds of work from which the time of a record is known well enough to say how many make more."""
NEAR: Final = 0.6
"""Share of the work wanted that is enough."""
PATIENCE: Final = 4.0
"""How much longer than its work a round may take, about: agents that wait, a machine that is busy."""
MOST_RECORDS: Final = 5_000_000
MOST_BYTES: Final = 1 << 29
STATISTICS: Final = 0.5
"""Seconds between librdkafka's counts of bytes."""

Told = Callable[[int, float], None]
"""Told of a round's records, and the share (0..1) of them that is done."""


@dataclass(slots=True)
class Use:
    """What one worker has used and done until some moment: seconds, and records by task.

    Attributes:
        cpu: processor time of the process, librdkafka's threads included; `thread` that of its main thread alone.
        queued: in which the main thread wanted a processor and had none.
        loop: in which its loop worked or waited for what comes after it; `backpressured` the waiting alone.
        busy: in operators and user code, by task.
    """

    group: str
    cpu: float = 0.0
    thread: float = 0.0
    queued: float = 0.0
    loop: float = 0.0
    backpressured: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    records: dict[str, float] = field(default_factory=dict)

    def since(self, before: Use) -> Use:
        return Use(
            self.group,
            self.cpu - before.cpu,
            self.thread - before.thread,
            self.queued - before.queued,
            self.loop - before.loop,
            self.backpressured - before.backpressured,
            {task: seconds - before.busy.get(task, 0.0) for task, seconds in self.busy.items()},
            {task: count - before.records.get(task, 0.0) for task, count in self.records.items()},
        )

    @property
    def time(self) -> float:
        """Of the loop, as if a processor had been free whenever it wanted one."""
        return max(self.loop - self.queued, self.thread, 0.0)


@dataclass(slots=True)
class Round:
    """So many records, sent and processed.

    Attributes:
        others: processor seconds of the whole machine that were none of the workers', the broker's and ours.
        memory: the largest resident set of a worker, in bytes.
    """

    records: int
    seconds: float
    others: float
    workers: list[Use]
    memory: int

    @property
    def work(self) -> float:
        """Seconds of the worker that had most to do, in its functions or in all its main thread did; without waiting
        for brokers, which says little when they are short of processors."""
        return max((max(use.thread, sum(use.busy.values()) - use.queued) for use in self.workers), default=0.0)


class Runner:
    """Sends the sample to an app and waits for it. `broker` is its process.

    Methods raise KStreamError when the app fails, or when nothing moves for `STALLED` seconds.
    """

    def __init__(
        self, topology: Topology, supervisor: Supervisor, producer: ProducerClient, sample: Sample, broker: int | None
    ) -> None:
        self._topology, self._supervisor, self._producer, self.sample = topology, supervisor, producer, sample
        parts = topology.parts
        self._readers = {name: sum(name in part.topics for part in parts) for name in sources_of(topology)}
        self._internal = [one.topic.name for part in parts for one in part.sources if one.topic.internal]
        self._counts: dict[str, Mapping[tuple[str, str], float]] = {}  # by worker: its counters, by name and label
        self._heard: dict[str, float] = {}
        self._memory = 0
        self._ours = [os.getpid(), *([] if broker is None else [broker])]
        self.sent: dict[str, int] = dict.fromkeys(self._readers, 0)

    def start(self) -> None:
        """Starts the workers and waits until all tasks run."""
        self._supervisor.start()
        tasks = sum(self._supervisor.partitions[part.topics[0]] for part in self._topology.parts)

        def running() -> int:
            return sum(
                task.state == "running" for worker in self._supervisor.workers for task in worker.report.tasks
            )  # fmt: skip

        self._until(lambda: running() == tasks, "the app does not start", running)

    def measure(self, seconds: float, told: Told = lambda _, __: None) -> Round:
        """Rounds of ever more records, until one is about so many seconds of work, or has taken `PATIENCE` times as
        long; only that one counts. Joining the group, imports and cold caches are behind it then."""
        most = max(1, min(MOST_RECORDS, int(MOST_BYTES / max(self.sample.bytes, 1.0))))
        count = min(FIRST, most)
        self.round(count)
        while True:
            found = self.round(count, partial(told, count))
            if found.work >= NEAR * seconds or found.seconds >= NEAR * PATIENCE * seconds or count >= most:
                return found
            growth = seconds / found.work if found.work >= ENOUGH else GROWTH
            growth = max(1.0, min(growth, PATIENCE * seconds / found.seconds))
            count = min(most, ceil(count * growth))

    def finish(self) -> None:
        """Waits until librdkafka has counted all bytes, which it does now and then, and stops the workers."""
        seen, due = -1.0, time.monotonic()

        def same() -> bool:
            nonlocal seen, due
            if time.monotonic() < due:
                return False
            due = time.monotonic() + 2 * STATISTICS
            before, seen = seen, self.total("consumed_bytes_total") + self.total("produced_bytes_total")
            return seen == before

        self._until(same, "bytes are counted on and on", lambda: 0.0)
        self._supervisor.stop()
        self._supervisor.wait()

    def round(self, count: int, told: Callable[[float], None] = lambda _: None) -> Round:
        """Sends so many records and waits until they, and what was made of them, are processed and committed."""
        self._memory = 0
        before, began, spent = self._uses(), time.monotonic(), self._spent()
        done, start = self._committed(), sum(self.sent.values())
        for number, record in enumerate(self.sample.repeated(start, count)):
            self._send(record.topic, record.value, record.key, record.timestamp)
            self.sent[record.topic] += 1
            if number % 2000 == 0:
                self._look(0.0)
                told((self._committed() - done) / count)
        self._producer.flush(STALLED)
        self._until(
            self._through, "the app does not get on", self._moved, lambda: told((self._committed() - done) / count)
        )
        uses = [use.since(before[name]) for name, use in self._uses().items()]
        others = self._spent() - spent - sum(use.cpu for use in uses)
        return Round(count, time.monotonic() - began, max(others, 0.0), uses, self._memory)

    def total(self, name: str, label: str | None = None) -> float:
        """A counter over all workers since they were started, of one label or of all."""
        return sum(
            value
            for counts in self._counts.values()
            for (one, at), value in counts.items()
            if one == name and label in (None, at)
        )

    # ---- what is seen

    def _through(self) -> bool:
        committed = {topic: self.total("records_committed_total", topic) for topic in [*self.sent, *self._internal]}
        if any(committed[topic] < count * self._readers[topic] for topic, count in self.sent.items()):
            return False
        if not any(worker.report.aborts for worker in self._supervisor.workers):
            return all(committed[topic] >= self.total("records_produced_total", topic) for topic in self._internal)
        # what was taken back was counted as produced, too
        lag = sum(worker.report.lag for worker in self._supervisor.workers)
        return lag == 0 and self.total("uncommitted_records") == 0

    def _committed(self) -> float:
        """Input records that are through, by those who read them first."""
        return sum(self.total("records_committed_total", topic) / count for topic, count in self._readers.items())

    def _moved(self) -> float:
        return self.total("task_records_total")

    def _uses(self) -> dict[str, Use]:
        return {worker.name: self._use(worker) for worker in self._supervisor.workers}

    def _spent(self) -> float:
        """Processor seconds of the whole machine so far, without those of the broker and of this process."""
        machine = psutil.cpu_times()
        return machine.user + machine.system - sum(_cpu(pid) for pid in self._ours)

    def _use(self, worker: WorkerProcess) -> Use:
        use = Use(worker.group)
        if worker.pid is not None:
            use.cpu = _cpu(worker.pid)
            use.thread, use.queued = _main_thread(worker.pid)
        for (name, label), value in self._counts.get(worker.name, {}).items():
            if name == "worker_busy_seconds_total":
                use.loop += value
            elif name == "worker_backpressured_seconds_total":
                use.loop += value
                use.backpressured += value
            elif name == "busy_seconds_total":
                use.busy[label] = value
            elif name == "task_records_total":
                use.records[label] = value
        return use

    # ---- turns

    def _send(self, topic: str, value: bytes | None, key: bytes | None, timestamp: int) -> None:
        write_record(self._producer, topic, value, key, timestamp=timestamp, meanwhile=partial(self._look, 0.0))

    def _until(
        self,
        holds: Callable[[], bool],
        trouble: str,
        moved: Callable[[], float],
        each: Callable[[], None] = lambda: None,
    ) -> None:
        """Waits for a condition, for as long as `moved` changes."""
        seen, deadline = -1.0, time.monotonic() + STALLED
        while not holds():
            self._look(0.1)
            each()
            if (now := moved()) != seen:
                seen, deadline = now, time.monotonic() + STALLED
            if time.monotonic() > deadline:
                raise KStreamError(f"{trouble}: no record was processed for {STALLED:.0f} s")

    def _look(self, timeout: float) -> None:
        """Listens to the workers for up to `timeout` seconds."""
        self._supervisor.poll(timeout)
        if self._supervisor.failure is not None:
            raise KStreamError(f"the app cannot run: {self._supervisor.failure}")
        for worker in self._supervisor.workers:
            failed = next((task.error for task in worker.report.tasks if task.error), None)
            if failed is not None:
                raise KStreamError(f"the app fails on the sample: {failed}")
            if worker.restarts:
                raise KStreamError(f"the app's worker ended: {worker.last_error}")
            if worker.pid is None or self._heard.get(worker.name) == worker.heard:
                continue
            self._heard[worker.name] = worker.heard
            if worker.report.metrics:
                self._counts[worker.name] = {
                    (one.name, one.labels[0] if one.labels else ""): one.value for one in worker.report.metrics
                }
            self._memory = max(self._memory, psutil.Process(worker.pid).memory_info().rss)


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _main_thread(pid: int) -> tuple[float, float]:
    """Seconds that the main thread of a process had a processor, and that it waited for one. Only Linux tells: without,
    both are 0, and whatever else ran on the machine counts as the app's time."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9
