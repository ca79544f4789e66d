"""When a commit is due, and what leads up to it. The commit itself is `checkpoint.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from kstream.config import Settings
from kstream.errors import AbortRequired, TableError, TransactionError
from kstream.observe.status import CheckpointStatus
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.task import Task
from kstream.runtime.worker.checkpoint import Group, attributed, checkpoint
from kstream.runtime.worker.eventloop import EventLoop
from kstream.runtime.worker.tasks import Tasks
from kstream.runtime.worker.transaction import Transaction
from kstream.types import Clock

log = logging.getLogger(__name__)


class Committer:
    """Commits the tasks of a worker.

    Args:
        name: of the worker, for the report of each checkpoint.
        meanwhile: called while agents are waited for.

    Attributes:
        uncommitted: records processed since the last commit.
        records: records processed since the worker was made.
        commits: how many there were.
        last: when the last one was, or the transaction was taken back (monotonic).
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        clock: Clock,
        tasks: Tasks,
        transaction: Transaction,
        group: Group,
        events: EventLoop,
        measures: Measures,
    ) -> None:
        self._name, self._settings, self._clock = name, settings, clock
        self._tasks, self._transaction, self._group = tasks, transaction, group
        self._events, self._measures = events, measures
        self.meanwhile: Callable[[], None] = _nothing
        self.uncommitted = self.records = self.commits = 0
        self.last = clock.monotonic()
        self._warned: set[str] = set()

    def is_due(self) -> bool:
        if self._clock.monotonic() - self.last >= self._settings.commit_interval:
            return True
        if self.uncommitted >= self._settings.max_uncommitted_records:
            return True
        limit = self._settings.overlay_memory
        tasks = self._tasks
        return (
            sum(task.overlay_bytes for task in tasks.all.values()) > limit
            or any(task.wants_commit for task in tasks.running)
        )  # fmt: skip

    @property
    def seconds_left(self) -> float:
        """Until the interval is over."""
        return max(0.0, self.last + self._settings.commit_interval - self._clock.monotonic())

    def count(self, task: Task, records: int) -> None:
        """The task has processed these."""
        self.uncommitted += records
        self.records += records
        self._measures.times[task.name].records += records

    def start_anew(self) -> None:
        """Nothing is uncommitted any more: it was committed, or taken back."""
        self.uncommitted = 0
        self.last = self._clock.monotonic()

    def commit(self) -> None:
        """Drains the agents and commits all running tasks.

        Raises:
            TaskFailed, AbortRequired, ProducerLost, StateDamaged: see `checkpoint`.
        """
        running = self._tasks.running
        if any(task.touched for task in running):
            self._commit(running)
        self.start_anew()
        self._measures.committed_at = self._clock.time()

    def _commit(self, running: Sequence[Task]) -> None:
        began, worked, waited = time.monotonic(), time.thread_time(), self.backpressured
        told = CheckpointStatus(self._clock.time(), self._name, 0.0)
        try:
            self._transaction.begin()
            self._drain(running)
            self._sample_keys(running)
            told.records = sum(task.uncommitted for task in running)
            told.tasks = checkpoint(
                running, self._tasks.changelog, self._transaction, self._group, self._clock, self._drain
            )  # fmt: skip
        except (TransactionError, TaskFailed, StateDamaged) as error:
            self._measures.checkpoint_failed(told, error)
            raise
        told.seconds = time.monotonic() - began
        waited = told.seconds - (time.thread_time() - worked) - (self.backpressured - waited)
        self._measures.waited_for_brokers(max(0.0, waited), any(map(self._tasks.has_lag, running)))
        self._measures.checkpoint_done(told)
        self.commits += 1

    def _drain(self, tasks: Sequence[Task]) -> None:
        """Step 1 of the checkpoint: agents reach the end of what they were given."""
        patience = self._settings.transaction_timeout / 3  # agents are drained twice at most
        deadline = self._clock.monotonic() + patience
        while any(task.busy for task in tasks):
            for task in tasks:
                if task.busy:
                    before = task.records
                    with attributed(task):
                        task.finish_work()
                    self.count(task, task.records - before)
            if self._clock.monotonic() > deadline:
                names = ", ".join(task.name for task in tasks if task.busy)
                raise AbortRequired(
                    f"agents of {names} took longer than {patience:.1f} s with what they "
                    "were given: they get less now; where a single record may take so long, raise transaction_timeout"
                )
            self.wait_for_agents(0.001)
            self.meanwhile()

    def wait_for_agents(self, seconds: float) -> None:
        """Agents go on with what they were given. Time in which none of them computes is backpressure: they wait for
        something outside."""
        began, worked = time.monotonic(), time.thread_time()
        self._events.wait(seconds)
        self._measures.backpressured += max(0.0, time.monotonic() - began - (time.thread_time() - worked))

    @property
    def backpressured(self) -> float:
        """Seconds in which there were records, and what comes after this worker was waited for."""
        return self._measures.backpressured + self._transaction.blocked

    def _sample_keys(self, tasks: Sequence[Task]) -> None:
        """A key of a keyed table that belongs to another partition has two homes: looked for in one key a commit."""
        if self._settings.check_keys != "sample":
            return
        for task in tasks:
            for store in task.stores.values():
                if store.check is not None and store.name not in self._warned:
                    try:
                        store.check_one_change()
                    except TableError as error:
                        self._warned.add(store.name)
                        log.error("%s", error)


def _nothing() -> None:
    return
