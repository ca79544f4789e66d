"""What a worker counts on its way, a few additions a batch or a commit. `reporting.py` reads it out.

It lives as long as the worker: tasks come and go, their counts stay.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from random import randrange
from typing import Any

from kstream.errors import AbortRequired, InstanceFenced, ProducerLost
from kstream.observe.catalogue import DURATIONS, LATENCIES, PER_RECORD, SIZES
from kstream.observe.hitters import SpaceSaving
from kstream.observe.instruments import Histogram
from kstream.observe.status import CheckpointStatus
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.topology import SubTopology

SAMPLE = 64
"""Entries of a store whose sizes are looked at in each commit."""
LARGEST_AMONG = 250
"""Of how many entries of a commit the largest is looked for."""
LARGEST = 5
HOT_SAMPLE = 64
"""Keys of the last batch before a commit that are counted."""
MERGED = 256
"""Records up to which runs are taken together before their latencies are counted."""
CLASSES = 50
"""Error classes that are told apart."""


REASONS = {
    AbortRequired: "aborted",
    ProducerLost: "producer lost",
    InstanceFenced: "fenced",
    TaskFailed: "record failed",
    StateDamaged: "state damaged",
}
"""Of failed checkpoints. A closed list: each is there at zero from the start, so that alerts see the first one."""
OTHER = "other"


class Runs:
    """Timestamps (ms) of the records of one input since the last commit, as runs of records: count, first, last."""

    __slots__ = ("_runs", "records")

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int]] = []
        self.records = 0

    def add(self, count: int, first: int, last: int) -> None:
        self.records += count
        if self._runs and self._runs[-1][0] < MERGED:
            before, first, _ = self._runs.pop()
            count += before
        self._runs.append((count, first, last))

    def committed(self, now: float, latency: Histogram, delay: Histogram | None = None, within: float = 0.0) -> int:
        """Counts how long ago (seconds) these records were stamped; returns how many there were.

        Args:
            delay: where it is counted how long they have waited: no longer than `within`, whatever their stamps say.
        """
        records = self.records
        for count, first, last in self._runs:
            old, new = max(0.0, now - first / 1000), max(0.0, now - last / 1000)
            least, most = min(old, new), max(old, new)
            latency.spread(least, most, count)
            if delay is not None:
                delay.spread(min(least, within), min(most, within), count)
        self.drop()
        return records

    def drop(self) -> None:
        if self.records:
            self._runs, self.records = [], 0


class StoreMeasures:
    """One store over all its tasks."""

    def __init__(self) -> None:
        self.hitters = SpaceSaving()
        self.hits = self.large = 0
        self.misses = 0
        self.expired = 0
        self.sizes = Histogram(SIZES)
        self.largest: dict[bytes, int] = {}

    def used(self, keys: Sequence[bytes | None]) -> None:
        """Looks at some of the keys of one batch: how often each comes is as in all of them."""
        step = len(keys) // HOT_SAMPLE + 1
        self.hitters.add(key for key in keys[randrange(step) :: step] if key is not None)

    def wrote(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Looks at the sizes of some of what a commit wrote."""
        for key, value in islice(changes.items(), SAMPLE):
            if value is not None:
                self.sizes.observe(len(key) + len(value))
        step = len(changes) // LARGEST_AMONG + 1
        entries: Iterable[tuple[bytes, bytes | None]] = islice(changes.items(), 0, None, step)
        key, value = max(entries, key=_value_size)
        if value is None:
            self.largest.pop(key, None)
            return
        size = len(key) + len(value)
        if key in self.largest or len(self.largest) < LARGEST or size > min(self.largest.values()):
            self.largest[key] = size
            if len(self.largest) > LARGEST:
                del self.largest[min(self.largest, key=self.largest.__getitem__)]


def _value_size(entry: tuple[bytes, bytes | None]) -> int:
    return len(entry[1] or b"")


class PartMeasures:
    """One sub-topology over all its tasks in this worker."""

    def __init__(self, part: SubTopology) -> None:
        self.name, self.operators = part.name, part.operator_names
        self.consumed = dict.fromkeys(part.topics, 0)
        self.committed = dict.fromkeys(part.topics, 0)
        self.processing = Histogram(PER_RECORD)
        self.latency = {topic: Histogram(LATENCIES) for topic in part.topics}
        self.delay = {topic: Histogram(LATENCIES) for topic in part.topics}
        self.stores = {store.name: StoreMeasures() for store in part.stores}
        self.emitted = [0] * len(part.nodes)  # of tasks that were closed
        self.failed = [0] * len(part.nodes)  # records, at each operator
        self.dropped: Counter[str] = Counter()  # records, by reason
        self.slow = 0
        self.retries = 0

    def processed(self, topic: str, records: int, seconds: float) -> None:
        if not records:  # it was told the time
            return
        self.consumed[topic] += records
        self.processing.observe(seconds / records, records)

    def was_committed(self, topic: str, runs: Runs, now: float, within: float | None) -> None:
        """Counts the records of an input since its last commit.

        Args:
            now: by the wall clock.
            within: seconds that they may have waited at most; None where they were there before anybody looked.
        """
        delay = None if within is None else self.delay[topic]
        self.committed[topic] += runs.committed(now, self.latency[topic], delay, within or 0.0)

    def closed(self, task: Any) -> None:
        """Keeps what the operators and stores of a task counted until now."""
        for index, operator in enumerate(task.plan.operators):
            self.emitted[index] += operator.emitted
            self.dropped += operator.dropped
        self.slow += task.slow.batches
        for name, store in task.stores.items():
            self.stores[name].hits += store.hits
            self.stores[name].misses += store.misses
            self.stores[name].large += store.large.seen
            self.stores[name].expired += store.expired


class TaskTimes:
    """Seconds and records of one task. While it runs, what is neither busy nor backpressured is idle. While it does not
    (failed, restoring, suspended) its time is none of the three."""

    __slots__ = ("backpressured", "busy", "elapsed", "records", "running_since", "waiting_since")

    def __init__(self) -> None:
        self.records = 0
        self.busy = self.backpressured = self.elapsed = 0.0
        self.running_since: float | None = None
        self.waiting_since: float | None = None

    def runs(self, now: float) -> None:
        if self.running_since is None:
            self.running_since = now

    def rests(self, now: float) -> None:
        self.elapsed, self.backpressured = self.total(now), self.backpressured_until(now)
        self.running_since = self.waiting_since = None

    def total(self, now: float) -> float:
        """Seconds in which it ran."""
        return self.elapsed + (now - self.running_since if self.running_since is not None else 0.0)

    def backpressured_until(self, now: float) -> float:
        return self.backpressured + (now - self.waiting_since if self.waiting_since is not None else 0.0)

    def ran(self, began: float, now: float, blocked: float, waits: bool) -> None:
        """A turn of the task.

        Args:
            blocked: seconds of the turn in which the producer's queue had no room.
            waits: agents are suspended with what they have: until the next turn they wait for something outside.
        """
        if self.waiting_since is not None:
            self.backpressured += began - self.waiting_since
        self.busy += now - began - blocked
        self.backpressured += blocked
        self.waiting_since = now if waits else None


class Measures:
    """Everything a worker counts, from `now` (monotonic; `wall` by the wall clock) on."""

    def __init__(self, parts: Iterable[SubTopology], now: float, wall: float) -> None:
        self.began = now
        self.parts = {part.name: PartMeasures(part) for part in parts}
        self.times: defaultdict[str, TaskTimes] = defaultdict(TaskTimes)
        self.idle = self.backpressured = 0.0
        self.checkpoints = Histogram(DURATIONS)
        self.checkpoint_failures = dict.fromkeys((*REASONS.values(), OTHER), 0)
        self.last_checkpoints: deque[CheckpointStatus] = deque(maxlen=50)  # until they are reported
        self.committed_at = wall  # nothing has been done yet that is not committed
        self.producer_restarts = 0
        self.rebalances = 0
        self.rebalance = Histogram(DURATIONS)
        self._rebalance_began: float | None = None
        self.errors: Counter[tuple[str, str]] = Counter()
        self.dead_letters: Counter[tuple[str, str]] = Counter()  # by their topic and reason
        self.skipped: Counter[tuple[str, str]] = Counter()  # by the records' topic and reason
        self.retried: Counter[tuple[str, str]] = Counter()  # as above
        self._reasons: set[str] = set()

    def waited_for_brokers(self, seconds: float, lag: bool) -> None:
        """In a commit. Where records wait meanwhile that is backpressure; otherwise there was nothing else to do."""
        if lag:
            self.backpressured += seconds
        else:
            self.idle += seconds

    def checkpoint_done(self, done: CheckpointStatus) -> None:
        self.checkpoints.observe(done.seconds)
        self.last_checkpoints.append(done)

    def checkpoint_failed(self, attempt: CheckpointStatus, error: BaseException) -> None:
        attempt.error = str(error)
        self.checkpoint_failures[REASONS.get(type(error), OTHER)] += 1
        self.last_checkpoints.append(attempt)

    def failed(self, phase: str, error: BaseException) -> None:
        name = error_class(error)
        if (phase, name) not in self.errors and len(self.errors) >= CLASSES:
            name = "other"
        self.errors[phase, name] += 1

    def named(self, kind: type[BaseException]) -> str:
        """The class of an error, as the reason that metrics have."""
        name = kind.__name__
        if name not in self._reasons and len(self._reasons) >= CLASSES:
            return OTHER
        self._reasons.add(name)
        return name

    def rebalance_began(self, now: float) -> None:
        if self._rebalance_began is None:
            self._rebalance_began = now

    def rebalance_ended(self, now: float) -> None:
        self.rebalances += 1
        if self._rebalance_began is not None:
            self.rebalance.observe(now - self._rebalance_began)
            self._rebalance_began = None


def _told_by(error: BaseException) -> BaseException | None:
    for name in ("cause", "error"):  # of kstream's own errors; of the user's they may be anything
        with suppress(Exception):
            if isinstance(found := getattr(error, name, None), BaseException):
                return found
    return error.__cause__


def error_class(error: BaseException) -> str:
    """The class that says most: the user's own exception, when that is at the bottom of it. Causes may lead in a
    circle."""
    seen = {id(error)}
    while True:
        cause = _told_by(error)
        if cause is None or id(cause) in seen:
            return type(error).__name__
        error = cause
        seen.add(id(error))
