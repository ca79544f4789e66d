"""A worker: one loop on one thread. poll -> tasks -> checkpoint.

It owns one consumer, one producer with its transaction, and the tasks of the partitions it is assigned. What rebalances
ask for is in `rebalance.py`, what failures ask for in `recovery.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from kstream.errors import InstanceFenced, LifespanFailed, PartitionUnreadable, TransactionError
from kstream.observe import traces
from kstream.runtime.cluster.control import refuse_unfinished_restore
from kstream.runtime.task.context import Worker
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState, move
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import TaskMaker, WorkerParts
from kstream.runtime.worker.checkpoint import attributed
from kstream.runtime.worker.committer import Committer
from kstream.runtime.worker.eventloop import EventLoop
from kstream.runtime.worker.global_tables import GlobalTables
from kstream.runtime.worker.housekeeping import Housekeeping
from kstream.runtime.worker.idling import Idling
from kstream.runtime.worker.inputs import Inputs
from kstream.runtime.worker.limits import SizeLimits
from kstream.runtime.worker.lingering import Lingering
from kstream.runtime.worker.listening import Listening
from kstream.runtime.worker.offsets import CommittedOffsets
from kstream.runtime.worker.opening import Opening
from kstream.runtime.worker.rebalance import Membership, Rebalance
from kstream.runtime.worker.recovery import FINER, Recovery
from kstream.runtime.worker.renewal import Renewal
from kstream.runtime.worker.restore import Restorer
from kstream.runtime.worker.restraint import Restraint
from kstream.runtime.worker.savepoint import SavepointPart
from kstream.runtime.worker.snapshots.counts import SnapshotCounts
from kstream.runtime.worker.snapshots.fetchers import fetches_of
from kstream.runtime.worker.snapshots.taking import Snapshots
from kstream.runtime.worker.states import WORKER_MOVES, MembershipState, WorkerState
from kstream.runtime.worker.tasks import Tasks
from kstream.runtime.worker.transaction import Transaction
from kstream.runtime.worker.unreadable import Unreadable
from kstream.runtime.worker.warm import Warm
from kstream.types import Polled, TopicPartition

log = logging.getLogger(__name__)

DELETE_RETENTION = 7 * 86_400.0 - 86_400.0
"""Seconds after which local state may have missed tombstones: `delete.retention.ms` less a day's margin."""

IDLE_SECONDS = 0.1
"""Longest wait for records; timers, signals and restores are looked at this often at least."""


class StreamWorker:
    """See the module's text. `start`, then `step` until `stop` was called, then `close`; `run` does all three."""

    def __init__(self, parts: WorkerParts) -> None:
        if parts.topology.within < parts.settings.commit_interval:
            parts = replace(parts, settings=replace(parts.settings, commit_interval=parts.topology.within))
        self.parts = parts
        settings, identity, clock = parts.settings, parts.identity, parts.clock
        self._settings, self._clock = settings, clock
        self.state = WorkerState.NEW
        self.paused = False  # by an operator: tasks are not run, everything else goes on
        self.worker = Worker(identity)
        self.measures = Measures(parts.topology.parts, clock.monotonic(), clock.time())
        self.events = EventLoop()
        self._admin = parts.clients.admin()
        exactly_once, timeout = settings.processing_guarantee == "exactly_once", settings.transaction_timeout
        producer_id = identity.member if exactly_once else None
        lingering = Lingering(identity.group, producer_id, parts.clients, self._admin, clock, timeout=timeout)
        self.transaction = Transaction(parts.clients, producer_id, timeout=timeout, let_go=lingering.is_out)
        self._consumer = parts.clients.consumer(identity.group, identity.member)
        self._membership = Membership(
            self._consumer, partial(refuse_unfinished_restore, parts.clients, self._admin, identity.app)
        )
        opening = Opening(Path(settings.state_dir), identity.member, parts.backends, clock)
        self.directory = opening.directory
        self.tables = GlobalTables(parts, self.directory, self._admin)
        maker = TaskMaker(
            parts, self.worker, self.transaction, self.events.asyncio, self.measures, self.tables.stores
        )  # fmt: skip
        self.registry = Tasks(parts, maker, opening, self._consumer, self._admin, self.measures, self.worker.metrics)
        self.inputs = Inputs(self._admin, clock, parts.topology, parts.partitions)
        self.snapshot_counts = SnapshotCounts()
        of_tasks, of_copies = fetches_of(parts, self.directory, self.snapshot_counts)
        self.restorer = Restorer(
            identity.group,
            self._admin,
            parts.clients.reader,
            self.registry.changelog,
            clock,
            self.inputs,
            opening,
            CommittedOffsets(
                identity.group, settings, parts.whole or parts.topology, parts.partitions, exactly_once=exactly_once
            ),
            Restraint(clock, settings.restore_share, settings.restore_rate),
            of_tasks,
            delete_retention=DELETE_RETENTION,
        )
        self._listening = Listening(parts.listeners, inline=parts.commits_wait)
        self.committer = Committer(
            self.worker.name, settings, clock, self.registry, self.transaction, self._membership, self.events,
            self.inputs, self.measures, self._listening,
        )  # fmt: skip
        self.snapshots = None if parts.storage is None else Snapshots(
            settings, identity, self.directory, clock, parts.storage, self.snapshot_counts, self._listening.tell
        )  # fmt: skip
        self._recovery = Recovery(
            settings, clock, self.registry, self.transaction, self.committer, self.restorer, self.inputs,
            self.measures, self.snapshots, SizeLimits(self._admin, settings), raise_failures=parts.raise_failures,
        )  # fmt: skip
        self._rebalance = Rebalance(
            self.worker.group, clock, self._membership, self.registry, self.transaction, self.committer,
            self._recovery, self.measures, lingering,
        )  # fmt: skip
        self.warm = Warm(
            parts.topology, opening, parts.clients.reader, self._admin, clock,
            Restraint(clock, settings.restore_share, settings.restore_rate), of_copies,
            delete_retention=DELETE_RETENTION,
        )  # fmt: skip
        self._unreadable = Unreadable(self.registry, self.committer)
        self._idling = Idling(self.registry, self._admin, clock, settings.idle_timeout)
        renewal = Renewal(self._admin, self.registry.changelog, clock) if exactly_once else None
        self._housekeeping = Housekeeping(parts.topology, settings, self._admin, self.directory, clock, renewal)
        self._housekeeping.give_back = parts.give_back
        self.savepoint = SavepointPart(
            identity, self.directory, self.registry, self._membership, self.committer, clock
        )  # fmt: skip

    # ---- the loop

    def run(self, every_step: Callable[[StreamWorker], None] | None = None) -> None:
        """Runs until `stop`. `every_step` is called after each turn, and while it waits for agents (reports)."""
        every = every_step or _nothing
        self.committer.meanwhile = lambda: every(self)
        try:
            self.start()
            while not self.stopping:
                self.step()
                every(self)
        except BaseException:
            try:
                self.abandon()
            except LifespanFailed as error:  # what ended the worker is what counts
                log.error("%s", error, exc_info=error.__cause__)
            raise
        self.close()

    def start(self) -> None:
        """Starts the lifespan, and joins the group. (a) of the restore order follows as its member (rebalance.py)."""
        self.events.begin(self.parts.lifespan, self.worker)
        self.transaction.prepare()
        topics = [topic for part in self.parts.topology.parts for topic in part.topics]
        self.measures.rebalance_began(self._clock.monotonic())
        self.tables.then(partial(self._consumer.subscribe, topics, self._rebalance))
        if not self.stopping:
            self._go(WorkerState.RUNNING)

    def stop(self) -> None:
        """Asks `run` to finish: drain, commit, leave."""
        if self.state is not WorkerState.STOPPING:
            self._go(WorkerState.STOPPING)

    def step(self) -> None:
        """One turn: what Kafka has, what the tasks make of it, and a commit when it is time.

        Raises:
            InstanceFenced: another process runs under this identity.
            ProcessingError: a record failed, with `raise_failures`.
        """
        self._recovery.handling(self._one_turn)

    def commit_now(self) -> None:
        """A commit outside the loop's own times; what goes wrong is handled as in `step`."""
        self._recovery.handling(self.committer.commit)

    def _one_turn(self) -> None:
        if self.tables and not self.tables.step(self.registry.running):
            self.events.settle()
            self._housekeeping.step(self.registry.all, self.tables.open)
            return
        self._poll()
        if not self._rebalance.step():
            return
        self.inputs.check(self.registry.running)
        self._recovery.step()
        if self.warm.active:
            self._follow()
        self.registry.step()
        self._idling.step()
        self.savepoint.step()
        if not self.savepoint.frozen:
            self._run_tasks()
        if self._unreadable:
            self._unreadable.step()
        if self.committer.is_due():
            self.committer.commit()
        self._housekeeping.step(self.registry.all, [*self.warm.copies.values(), *self.tables.open])
        if self.snapshots is not None:
            self.snapshots.step(self.registry.all)

    def _follow(self) -> None:
        """Warm copies, once no task of this worker is restored."""
        beside = self.warm.restraint.beside(self.records)
        batch = self._settings.poll_batch // (FINER if beside else 1)
        self.warm.step(0 if len(self.restorer) else max(1, batch), beside=beside)

    def _poll(self) -> None:
        patience = self._patience()
        began, worked = time.monotonic(), time.thread_time()
        polled = self._wait_for_records(patience)
        if not self._membership.settle() and patience:
            self.measures.idle += max(0.0, time.monotonic() - began - (time.thread_time() - worked))
        for fetch in polled.fetches:
            task = self.registry.reading(fetch.at)
            if task is not None and task.state is TaskState.RUNNING:
                task.add(fetch)
        for at, offset in polled.ends.items():
            task = self.registry.reading(at)
            if task is not None and task.state is TaskState.RUNNING:
                task.reached_end(at, offset)

    def _wait_for_records(self, patience: float) -> Polled:
        """Until there are some, something else comes of the poll (then it ends early), or the event loop has work."""
        membership, until = self._membership.state, time.monotonic() + patience
        while True:
            began = time.monotonic()
            seconds = self.events.patience(max(0.0, until - began))
            try:
                polled = self._consumer.poll(self.registry.turns.size, seconds)
            except PartitionUnreadable as error:
                self._unreadable.tell(error)
                return Polled()
            now = time.monotonic()
            if polled.fetches or polled.ends or now >= until or now - began < seconds / 2:
                return polled
            if self.events.has_work or self.stopping or self._membership.state is not membership:
                return polled

    def _patience(self) -> float:
        """How long the poll may wait for a first record."""
        pause = self.restorer.restraint.seconds_left() if self.restorer.replay else IDLE_SECONDS
        if self.stopping or not pause:
            return 0.0
        running, now = () if self.paused else self.registry.running, self._clock.monotonic()
        longest = min(pause, IDLE_SECONDS, self.warm.patience)
        for task in running:
            rests = task.rests_until - now
            if task.busy or (rests <= 0 and task.buffered and _takes_more(task)):
                return 0.0
            if rests > 0:
                longest = min(longest, rests)
            elif task.reading.delays:
                longest = min(longest, *(due - now for due in task.reading.waiting.values()), longest)
        if len(self.restorer):
            return min(longest, 0.005)
        if any(task.touched for task in self.tasks.values()):
            return min(longest, self.committer.seconds_left)
        return longest

    def _run_tasks(self) -> None:
        busy, now = False, self._clock.monotonic()
        until = max(now, self.committer.last) + self._settings.commit_interval
        for task in self.registry.in_turn():
            if (task.buffered or task.busy) and not self.paused and now >= task.rests_until:
                if task.search:
                    self.committer.commit_apart(task, partial(self._run_task, task, until))
                else:
                    self._run_task(task, until)
            self.registry.hold_back(task)
            busy = busy or task.busy
        if busy:
            self.committer.wait_for_agents(0.002)
        if busy or self.events.settle():
            self._check_agents()
        self.transaction.poll()

    def _run_task(self, task: Task, until: float) -> None:
        self.transaction.begin()
        records, began, blocked = task.records, self._clock.monotonic(), self.transaction.blocked
        try:
            with attributed(task):
                task.run(until)
        finally:
            self.committer.count(task, task.records - records)
            waited = self.transaction.blocked - blocked
            self.measures.times[task.name].ran(began, self._clock.monotonic(), waited, task.busy)

    def _check_agents(self) -> None:
        for task in self.registry.running:
            with attributed(task):
                task.check_agents()

    def _go(self, to: WorkerState) -> None:
        move("worker", self.state, to, WORKER_MOVES)
        self.state = to

    # ---- what is seen of it

    @property
    def stopping(self) -> bool:
        return self.state is WorkerState.STOPPING

    @property
    def tasks(self) -> Mapping[str, Task]:
        return self.registry.all

    @property
    def is_member(self) -> bool:
        """Whether its consumer group has given it its partitions, be it none."""
        return self._membership.state in (MembershipState.ASSIGNED, MembershipState.MEMBER)

    @property
    def now(self) -> float:
        """By the monotonic clock."""
        return self._clock.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the worker was made."""
        return self.now - self.measures.began

    @property
    def backpressured(self) -> float:
        """Seconds in which there were records, and what comes after this worker was waited for."""
        return self.committer.backpressured

    @property
    def commits(self) -> int:
        return self.committer.commits

    @property
    def aborts(self) -> int:
        return self._recovery.aborts

    @property
    def records(self) -> int:
        """Records processed since the worker was made."""
        return self.committer.records

    @property
    def uncommitted(self) -> int:
        """Records processed since the last commit."""
        return self.committer.uncommitted

    def lags_of(self, task: Task) -> dict[TopicPartition, int]:
        """Records that wait in each of a task's inputs; inputs whose ends were not heard of yet are left out."""
        return self.registry.lags_of(task)

    # ---- the end

    def close(self) -> None:
        """Clean stop: drain, commit, leave, free everything."""
        try:
            self.committer.commit(last=True)
        except (TransactionError, TaskFailed, StateDamaged) as error:
            log.warning("the last commit before the stop failed, its records will be processed again: %s", error)
            # left open, the transaction would keep those who take over waiting until the broker gives it up
            with suppress(InstanceFenced):
                self._recovery.take_back(error)
        self.abandon()

    def abandon(self) -> None:
        """Frees everything without a commit. Never raises on account of Kafka."""
        if self.snapshots is not None:
            self.snapshots.close()
        self._housekeeping.close()
        self.savepoint.close()
        self._consumer.close()
        self.restorer.close()
        self.warm.close()
        self.transaction.discard()
        for task in list(self.tasks.values()):
            self._recovery.close(task)
        self.tables.close()
        self._admin.close()
        if self.parts.tracer_provider is not None:
            traces.flush(self.parts.tracer_provider)
        self._listening.close()
        self._go(WorkerState.CLOSED)
        self.events.close()  # last: what the user's lifespan raises at its end holds up nothing


def _takes_more(task: Task) -> bool:
    return task.state is TaskState.RUNNING and not task.wants_commit


def _nothing(_: StreamWorker) -> None:
    return
