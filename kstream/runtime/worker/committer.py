"""When a commit is due, and what leads up to it. The commit itself is `checkpoint.py`."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from itertools import count

from kstream.config import Settings
from kstream.errors import AbortRequired, TableError, TransactionError
from kstream.observe.status import CheckpointStatus
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.task import Task
from kstream.runtime.worker.checkpoint import Group, attributed, checkpoint
from kstream.runtime.worker.eventloop import EventLoop
from kstream.runtime.worker.inputs import Inputs
from kstream.runtime.worker.listening import Listening
from kstream.runtime.worker.tasks import Tasks
from kstream.runtime.worker.transaction import Transaction
from kstream.specs.listener import Checkpoint
from kstream.types import Clock

log = logging.getLogger(__name__)

EARLY = 4
"""A task that takes nothing more before its commit waits for a part of the commit interval at most, so that several of
them share one."""


class Committer:
    """Commits the tasks of a worker.

    Args:
        name: of the worker, for the report of each checkpoint.
        listening: tells the user's listeners of it.
        meanwhile: called while it waits for agents.

    Attributes:
        uncommitted: records processed since the last commit.
        records: records processed since the worker was made.
        commits: how many there were.
        last: when the last one was, or the transaction was taken back (monotonic).
        frozen: nothing is committed, for the state is being copied or was. All that was processed is committed by then;
            what falls due by the clock would be told, and told again after a restore.
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
        inputs: Inputs,
        measures: Measures,
        listening: Listening,
    ) -> None:
        self._name, self._settings, self._clock = name, settings, clock
        self._tasks, self._transaction, self._group = tasks, transaction, group
        self._events, self._inputs = events, inputs
        self._measures, self._listening = measures, listening
        self._life, self._attempts = f"{name}-{secrets.token_hex(4)}", count(1)
        self.meanwhile: Callable[[], None] = _nothing
        self.uncommitted = self.records = self.commits = 0
        self.frozen = False
        self._overlays: dict[str, int] = {}  # by the tasks that were run since: none of the others has grown
        self.last = clock.monotonic()
        self._warned: set[str] = set()

    def is_due(self) -> bool:
        if self._clock.monotonic() - self.last >= self._settings.commit_interval:
            return True
        if self.uncommitted >= self._settings.max_uncommitted_records:
            return True
        if sum(self._overlays.values()) > self._settings.overlay_memory:
            return True
        return self.seconds_left <= 0.0

    @property
    def seconds_left(self) -> float:
        """Until a commit is due by time."""
        interval = self._settings.commit_interval
        if any(task.wants_commit for task in self._tasks.running):
            interval /= EARLY
        return max(0.0, self.last + interval - self._clock.monotonic())

    def count(self, task: Task, records: int) -> None:
        """The task has processed these."""
        self.uncommitted += records
        self.records += records
        self._measures.times[task.name].records += records
        self._overlays[task.name] = task.overlay_bytes

    def start_anew(self) -> None:
        """Nothing is uncommitted any more: it was committed, or taken back."""
        self.uncommitted = 0
        self._overlays.clear()
        self.last = self._clock.monotonic()

    def commit(self, *, last: bool = False) -> None:
        """Commits all running tasks, except those whose agents wait: these are committed when they are through.

        Args:
            last: before the partitions leave: agents that wait get some time to finish.

        Raises:
            TaskFailed, AbortRequired, ProducerLost, StateDamaged: see `checkpoint`.
        """
        if self.frozen:
            return
        running = self._tasks.running
        if last and any(task.busy for task in running):
            self._transaction.begin()
            self._drain(running, self._settings.transaction_timeout / 3)
        running = [task for task in running if not task.waits]
        for task in running:
            with attributed(task):
                task.touched = task.touched or task.ageing.is_due()
        # Kafka refused something that these put out without a record
        alone = [task for task in running if task.search and task.touched and not task.has_put_out]
        others = [task for task in running if task not in alone] if alone else running
        if any(task.touched for task in others):
            self._commit(others)
        for task in alone:
            with self._transaction.watching():
                self._commit([task])
        self.start_anew()
        self._measures.committed_at = self._clock.time()

    def commit_apart(self, task: Task, run: Callable[[], None]) -> None:
        """Runs a task in which a record at fault is looked for, in a transaction of its own, as far as it may go.

        Raises:
            As `commit`: before the run on account of the other tasks, after it of this one.
        """
        if task.waits and task.awaiting and not any(agent.overdue for agent in task.plan.agents):
            return  # the others need not be committed at each turn
        if any(other.takes_part for other in self._tasks.running):
            self.commit()
        with self._transaction.watching():
            run()
            if task.touched and not task.busy:
                self.commit()
        if not task.takes_part:
            self._transaction.watched = False  # what others put into it is not

    def _commit(self, running: Sequence[Task]) -> None:
        began, worked, waited = time.monotonic(), time.thread_time(), self.backpressured
        told = CheckpointStatus(self._clock.time(), self._name, 0.0, id=f"{self._life}-{next(self._attempts)}")
        try:
            self._transaction.begin()
            self._drain(running, self._settings.commit_interval)
            self._sample_keys(running)
            told.records = sum(task.uncommitted for task in running)
            question = self._inputs.ask_for(task for task in running if task.touched)
            told.tasks = checkpoint(
                running,
                self._tasks.changelog,
                self._transaction,
                self._group,
                self._clock,
                lambda tasks: self._drain(tasks, self._settings.commit_interval),
                lambda tasks: self._inputs.confirm(tasks, question),
            )
        except (TransactionError, TaskFailed, StateDamaged) as error:
            told.seconds = time.monotonic() - began
            self._measures.checkpoint_failed(told, error)
            self._tell(told)
            raise
        told.seconds = time.monotonic() - began
        waited = told.seconds - (time.thread_time() - worked) - (self.backpressured - waited)
        self._measures.waited_for_brokers(max(0.0, waited), any(map(self._tasks.has_lag, running)))
        self._measures.checkpoint_done(told)
        self._tell(told)
        self.commits += 1

    def _tell(self, told: CheckpointStatus) -> None:
        self._listening.tell(
            Checkpoint(
                id=told.id, kind="commit", worker=told.worker, at=told.at, seconds=told.seconds, tasks=told.tasks,
                records=told.records, error=told.error,
            )
        )  # fmt: skip

    def _drain(self, tasks: Sequence[Task], patience: float) -> None:
        """Step 1 of the checkpoint: agents reach the end of what they were given. Those that could be left out of the
        commit are given up when `patience` seconds are over.

        Raises:
            AbortRequired: the same for those that could not. They will be able to the next time.
        """
        deadline = self._clock.monotonic() + patience
        while any(task.busy for task in tasks):
            for task in tasks:
                if task.busy:
                    before = task.records
                    with attributed(task):
                        task.finish_work()
                    self.count(task, task.records - before)
            if self._clock.monotonic() > deadline:
                surprising = [task for task in tasks if task.busy and not task.waits]
                if not surprising:
                    return
                for task in surprising:
                    task.pace.surprised()
                names = ", ".join(task.name for task in surprising)
                raise AbortRequired(
                    f"agents of task {names} waited for something outside and delayed a commit by {patience:.1f} s; "
                    "from now on other tasks commit without waiting for them"
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
