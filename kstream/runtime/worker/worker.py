"""A worker: one loop on one thread. poll -> tasks -> checkpoint, and what rebalances and failures ask for.

It owns one consumer, one producer with its transaction, and the tasks of the partitions it is assigned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from kstream.errors import (
    AbortRequired,
    InstanceFenced,
    KStreamError,
    ProcessingError,
    ProducerLost,
    StateError,
    TableError,
    TransactionError,
)
from kstream.observe import traces
from kstream.observe.status import CheckpointStatus
from kstream.operators.agent import turn
from kstream.runtime.task.context import Worker
from kstream.runtime.task.failures import BatchFailed, StateDamaged, TaskFailed, place_of
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState, TransactionState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import TaskMaker, WorkerParts
from kstream.runtime.worker.checkpoint import attributed, checkpoint
from kstream.runtime.worker.housekeeping import Housekeeping
from kstream.runtime.worker.restore import Restorer
from kstream.runtime.worker.transaction import Transaction
from kstream.state.changelog import Changelog
from kstream.topology import SubTopology
from kstream.types import TopicPartition

log = logging.getLogger(__name__)

DELETE_RETENTION = 7 * 86_400.0 - 86_400.0
"""Seconds after which local state may have missed tombstones: `delete.retention.ms` less a day's margin."""

IDLE_SECONDS = 0.1
"""Longest wait for records; timers, signals and restores are looked at this often at least."""


class StreamWorker:
    """See the module's text. `start`, then `step` until `stop` was called, then `close`; `run` does all three."""

    def __init__(self, parts: WorkerParts) -> None:
        self.parts = parts
        settings, identity = parts.settings, parts.identity
        self._settings, self._clock = settings, parts.clock
        self.worker = Worker(identity)
        self.measures = Measures(parts.topology.parts, parts.clock.monotonic(), parts.clock.time())
        self.tasks: dict[str, Task] = {}
        self.waiting: dict[str, list[str]] = {}  # tasks some of whose inputs are elsewhere, and which
        self.paused = False  # by an operator: tasks are not run, everything else goes on
        self._by_input: dict[TopicPartition, Task] = {}
        self._owned: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        self._changelogs: dict[tuple[str, str], Changelog] = {}
        self._loop = asyncio.new_event_loop()
        self._running_lifespan: AsyncIterator[None] | None = None
        exactly_once = settings.processing_guarantee == "exactly_once"
        self.transaction = Transaction(
            parts.clients, identity.member if exactly_once else None, timeout=settings.transaction_timeout
        )
        self._admin = parts.clients.admin()
        self._consumer = parts.clients.consumer(identity.group, identity.member)
        self._group = _ConsumerGroup(self)
        self.restorer = Restorer(
            identity.group,
            self._admin,
            parts.clients.reader,
            self.changelog,
            parts.clock,
            reset=settings.auto_offset_reset,
            delete_retention=DELETE_RETENTION,
        )
        self._maker = TaskMaker(parts, self.worker, self.transaction, self._loop, self.measures)
        self.directory = self._maker.directory
        self._housekeeping = Housekeeping(parts.topology, settings, self._admin, self.directory, parts.clock)
        self._metadata: object = None  # of the assignment under which the current work is done
        self._assignment_is_new = False
        self._doubtful = False  # whether the last commit before a rebalance failed in the middle
        self._last_commit = self._clock.monotonic()
        self._uncommitted = 0
        self._retry_at: dict[str, tuple[float, float]] = {}  # failed task: when to try again, the pause before
        self._stopping = False
        self._turn = 0
        self._warned: set[str] = set()
        self._every_step: Callable[[StreamWorker], None] = _nothing
        self.commits = 0
        self.aborts = 0
        self.records = 0

    # ---- the loop

    def run(self, every_step: Callable[[StreamWorker], None] | None = None) -> None:
        """Runs until `stop`. `every_step` is called after each turn, and while agents are waited for (reports)."""
        self._every_step = every_step or _nothing
        try:
            self.start()
            while not self._stopping:
                self.step()
                self._every_step(self)
        except BaseException:
            self.abandon()
            raise
        self.close()

    def start(self) -> None:
        """Starts the lifespan and the producer, and joins the group. (a) of the restore order is here."""
        if self.parts.lifespan is not None:
            self._running_lifespan = self.parts.lifespan(self.worker)
            self._loop.run_until_complete(anext(self._running_lifespan))
        self.transaction.start()
        topics = [topic for part in self.parts.topology.parts for topic in part.topics]
        self.measures.rebalance_began(self._clock.monotonic())
        self._consumer.subscribe(topics, self)

    def stop(self) -> None:
        """Asks `run` to finish: drain, commit, leave."""
        self._stopping = True

    def step(self) -> None:
        """One turn: what Kafka has, what the tasks make of it, and a commit when it is time.

        Raises:
            InstanceFenced: another process runs under this identity.
            ProcessingError: a record failed, with `raise_failures`.
        """
        self._handling(self._one_turn)

    def commit_now(self) -> None:
        """A commit outside the loop's own times; what goes wrong is handled as in `step`."""
        self._handling(self.commit)

    def _one_turn(self) -> None:
        self._poll()
        self._restore()
        self._run_tasks()
        if self._commit_is_due():
            self.commit()
        self._housekeeping.step(self.tasks)

    def _handling(self, call: Callable[[], None]) -> None:
        """What may go wrong, and what is done about it."""
        try:
            call()
        except TaskFailed as failed:
            self._task_failed(self.tasks[failed.task], failed.error)
        except StateDamaged as damaged:
            self.measures.failed("state", damaged)
            if damaged.task in self.tasks:  # it may have left while its state was flushed
                self._rebuild(self.tasks[damaged.task], damaged.error)
        except (AbortRequired, ProducerLost) as error:
            if not isinstance(error.__cause__, BatchFailed):  # else the record is looked for, and counted when found
                self.measures.failed("commit", error)
            if isinstance(error, ProducerLost):
                self._recover(error)
            else:
                self._abort(error)

    def _poll(self) -> None:
        patience = self._patience()
        began, worked = time.monotonic(), time.thread_time()
        polled = self._consumer.poll(self._settings.poll_batch, patience)
        if self._assignment_is_new:
            self._assignment_is_new = False
            self._metadata = self._consumer.group_metadata()
        elif patience:
            self.measures.idle += max(0.0, time.monotonic() - began - (time.thread_time() - worked))
        for fetch in polled.fetches:
            task = self._by_input.get(fetch.at)
            if task is not None and task.state is TaskState.RUNNING:
                task.add(fetch)
        for at, offset in polled.ends.items():
            task = self._by_input.get(at)
            if task is not None and task.state is TaskState.RUNNING:
                task.reached_end(at, offset)

    def _patience(self) -> float:
        """How long the poll may wait for a first record."""
        if self._stopping or self.restorer.replaying:
            return 0.0
        running = () if self.paused else self.tasks.values()
        if any(task.busy or (task.buffered and task.state is TaskState.RUNNING) for task in running):
            return 0.0
        if len(self.restorer):
            return 0.005
        if any(task.touched for task in self.tasks.values()):
            due = self._last_commit + self._settings.commit_interval - self._clock.monotonic()
            return min(IDLE_SECONDS, max(0.0, due))
        return IDLE_SECONDS

    def _run_tasks(self) -> None:
        busy = False
        until = max(self._clock.monotonic(), self._last_commit) + self._settings.commit_interval
        for task in self._in_turn():
            if task.state is not TaskState.RUNNING:
                continue
            if (task.buffered or task.busy) and not self.paused:
                self._run_task(task, until)
            self._hold_back(task)
            busy = busy or task.busy
        if busy:
            self._wait_for_agents(0.002)
        elif self._running_lifespan is not None:
            turn(self._loop)
        self.transaction.poll()

    def _run_task(self, task: Task, until: float) -> None:
        if task.buffered:
            self.transaction.begin()
        records, began, blocked = task.records, time.monotonic(), self.transaction.blocked
        try:
            with attributed(task):
                task.run(until)
        finally:
            self._count(task, task.records - records)
            waited = self.transaction.blocked - blocked
            self.measures.times[task.name].ran(began, time.monotonic(), waited, task.busy)

    def _count(self, task: Task, records: int) -> None:
        self._uncommitted += records
        self.records += records
        self.measures.times[task.name].records += records

    def _wait_for_agents(self, seconds: float) -> None:
        """Agents go on with what they were given. Time in which none of them computes is backpressure: they wait for
        something outside."""
        began, worked = time.monotonic(), time.thread_time()
        self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()
        self.measures.backpressured += max(0.0, time.monotonic() - began - (time.thread_time() - worked))

    def _in_turn(self) -> list[Task]:
        """The tasks, each time beginning with another one: none starves when functions are slow."""
        tasks = list(self.tasks.values())
        self._turn += 1
        first = self._turn % len(tasks) if tasks else 0
        return tasks[first:] + tasks[:first]

    def _hold_back(self, task: Task) -> None:
        """Pauses the inputs of a task that has far more than it can take now, and resumes them when it has little."""
        buffered, batch = task.buffered, self._settings.poll_batch
        if buffered > 10 * batch:
            self._pause([at for at in task.inputs if at not in self._paused])
        elif buffered < batch and self._paused:
            self._resume([at for at in task.inputs if at in self._paused])

    def _pause(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._consumer.pause(partitions)
            self._paused.update(partitions)

    def _resume(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._consumer.resume(partitions)
            self._paused.difference_update(partitions)

    # ---- commit

    def _commit_is_due(self) -> bool:
        if self._clock.monotonic() - self._last_commit >= self._settings.commit_interval:
            return True
        if self._uncommitted >= self._settings.max_uncommitted_records:
            return True
        limit = self._settings.memory * self._settings.memory_overlay_fraction
        return (
            sum(task.overlay_bytes for task in self.tasks.values()) > limit
            or any(task.wants_commit for task in self.tasks.values() if task.state is TaskState.RUNNING)
        )  # fmt: skip

    def commit(self) -> None:
        """Drains the agents and commits all running tasks.

        Raises:
            AbortRequired, ProducerLost: see `checkpoint`.
        """
        running = [task for task in self.tasks.values() if task.state is TaskState.RUNNING]
        if any(task.touched for task in running):
            self._commit(running)
        self._uncommitted = 0
        self._last_commit = self._clock.monotonic()
        self.measures.committed_at = self._clock.time()

    def _commit(self, running: Sequence[Task]) -> None:
        began, worked, waited = time.monotonic(), time.thread_time(), self.backpressured
        told = CheckpointStatus(self._clock.time(), self.worker.name, 0.0)
        try:
            self.transaction.begin()
            self._drain(running)
            self._sample_keys(running)
            told.records = sum(task.uncommitted for task in running)
            told.tasks = checkpoint(
                running, self.changelog, self.transaction, self._group, self._clock, self._drain
            )  # fmt: skip
        except (TransactionError, TaskFailed, StateDamaged) as error:
            self.measures.checkpoint_failed(told, error)
            raise
        told.seconds = time.monotonic() - began
        waited = told.seconds - (time.thread_time() - worked) - (self.backpressured - waited)
        self.measures.waited_for_brokers(max(0.0, waited), any(map(self._has_lag, running)))
        self.measures.checkpoint_done(told)
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
                    self._count(task, task.records - before)
            if self._clock.monotonic() > deadline:
                names = ", ".join(task.name for task in tasks if task.busy)
                raise AbortRequired(
                    f"agents of {names} took longer than {patience:.1f} s with what they "
                    "were given: they get less now; where a single record may take so long, raise transaction_timeout"
                )
            self._wait_for_agents(0.001)
            self._every_step(self)

    def changelog(self, task: Task, store: str) -> Changelog:
        name = (task.name, store)
        if name not in self._changelogs:
            topic = self.parts.topology.changelog(task.stores[store].spec)
            self._changelogs[name] = Changelog(topic, task.partition)
        return self._changelogs[name]

    # ---- failures

    def _abort(self, error: BaseException) -> None:
        """Takes the transaction back; every task goes on from its committed offsets."""
        positions = self._take_back(error)
        if self.transaction.state is TransactionState.LOST or not self.transaction.exactly_once:
            self._recover(error)
        elif positions:
            self._consumer.seek(positions)

    def _take_back(self, error: BaseException) -> dict[TopicPartition, int]:
        """Aborts and rewinds the running tasks. Returns where they read on, unless the producer was lost with it."""
        log.warning("transaction aborted: %s", error)
        self.aborts += 1
        try:
            self.transaction.abort()
        except ProducerLost as lost:
            log.warning("%s", lost)
        positions: dict[TopicPartition, int] = {}
        for task in self.tasks.values():
            if task.state is TaskState.RUNNING:
                positions.update(task.rewind())
        self._uncommitted = 0
        self._last_commit = self._clock.monotonic()
        return positions

    def _recover(self, error: BaseException) -> None:
        """The outcome of the transaction is unknown: new producer, and every task is restored."""
        log.warning("starting over with a new producer: %s", error)
        self.measures.producer_restarts += 1
        self.transaction.start()
        for task in self.tasks.values():
            if task.state is TaskState.RUNNING:
                self._begin_restore(task, full=True)
        self._uncommitted = 0
        self._last_commit = self._clock.monotonic()

    def _rebuild(self, task: Task, error: StateError) -> None:
        """Local state is damaged: wiped and restored. So are the others restored: if this came up right after a
        commit, they may not have it yet."""
        log.error("task %s: %s; it is rebuilt from the changelog", task.name, error, extra={"task": task.name})
        self._take_back(error)
        self._close_task(task)
        self._maker.wipe(task.part, task.partition)
        for other in self.tasks.values():
            if other.state is TaskState.RUNNING:
                self._begin_restore(other, full=True)
        self._begin_restore(self._make_task(task.part, task.partition), full=True)

    def _task_failed(self, task: Task, error: KStreamError) -> None:
        """A record, or what a task has to commit, failed. The record is made sure of first (see failures.py)."""
        decided = not isinstance(error, ProcessingError) or task.suspicion.record_failed(error)
        self._abort(error)
        if not decided:
            return
        self.measures.failed("process" if isinstance(error, ProcessingError) else "commit", error)
        task.error = error
        if self.parts.raise_failures:
            raise error
        settings = self._settings
        tried_at, last = self._retry_at.get(task.name, (0.0, 0.0))
        if self._clock.monotonic() - tried_at >= settings.restart_reset_after:
            last = 0.0
        pause = min(settings.restart_max, max(settings.restart_initial, last * settings.restart_multiplier))
        self._retry_at[task.name] = (self._clock.monotonic() + pause, pause)
        self.restorer.drop(task)
        task.go(TaskState.FAILED)
        self._pause([at for at in task.inputs if at in self._owned])
        log.error(
            "%s; the task is tried again in %.0f s", error, pause, exc_info=error.__cause__,
            extra=place_of(error, task.name),
        )  # fmt: skip

    def _retry_failed(self) -> None:
        for task in self.tasks.values():
            if task.state is TaskState.FAILED and self._clock.monotonic() >= self._retry_at[task.name][0]:
                task.measures.retries += 1
                self._begin_restore(task, full=False)

    # ---- rebalances (called from inside poll)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._owned = set(partitions)
        self._paused = set(partitions)
        wanted = self._complete_tasks()
        for name in list(self.tasks):
            if name not in wanted:
                self._close_task(self.tasks[name])
        for name, (part, partition) in wanted.items():
            task = self.tasks.get(name) or self._make_task(part, partition)
            self._begin_restore(task, full=self._doubtful or task.state is TaskState.CREATED)
        self._doubtful = False
        self._assignment_is_new = True
        self.measures.rebalance_ended(self._clock.monotonic())
        log.info("assigned %d partitions, %d tasks", len(partitions), len(self.tasks))
        if not partitions:
            log.warning(
                "this worker has nothing to do: isolation group %s has more workers than its topics have partitions",
                self.worker.group,
            )
        return {at: max(0, self._by_input[at].positions[at]) if at in self._by_input else 0 for at in partitions}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commits what was done: these partitions may go to others. Tasks stay open: most come back at once."""
        self.measures.rebalance_began(self._clock.monotonic())
        try:
            self.commit()
        except InstanceFenced:
            raise
        except (TransactionError, TaskFailed, StateDamaged) as error:
            self._take_back(error)
            self._doubtful = True
        self._suspend()

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Others may own these partitions by now: nothing of them may be committed."""
        log.warning("lost %d partitions: the group had given us up", len(partitions))
        self.measures.rebalance_began(self._clock.monotonic())
        self._take_back(AbortRequired("the partitions were lost"))
        self._doubtful = self.transaction.state is TransactionState.LOST
        self._suspend()

    def _suspend(self) -> None:
        self._owned.clear()
        for task in self.tasks.values():
            self.restorer.drop(task)
            if task.state in (TaskState.RUNNING, TaskState.RESTORING, TaskState.FAILED):
                task.go(TaskState.SUSPENDED)

    def _complete_tasks(self) -> dict[str, tuple[SubTopology, int]]:
        """The tasks all of whose partitions are owned. Others wait, visibly."""
        wanted: dict[str, tuple[SubTopology, int]] = {}
        self.waiting = {}
        for part in self.parts.topology.parts:
            for partition in {at.partition for at in self._owned if at.topic in part.topics}:
                missing = [topic for topic in part.topics if TopicPartition(topic, partition) not in self._owned]
                if missing:
                    self.waiting[f"{part.name}/{partition}"] = missing
                    log.warning("task %s/%d waits for its other inputs: %s", part.name, partition, missing)
                else:
                    wanted[f"{part.name}/{partition}"] = (part, partition)
        return wanted

    # ---- tasks

    def _make_task(self, part: SubTopology, partition: int) -> Task:
        task = self._maker.make(part, partition, self._expected_tasks())
        self.tasks[task.name] = task
        self.measures.times[task.name].open(self._clock.monotonic())
        self._by_input.update(dict.fromkeys(task.inputs, task))
        return task

    def _expected_tasks(self) -> int:
        """Tasks with stores among what is owned: they share the object cache."""
        return max(1, sum(1 for at in self._owned if self.parts.topology.part_of(at.topic).stores))

    def _close_task(self, task: Task) -> None:
        self.restorer.drop(task)
        task.close()
        self.worker.metrics.forget(task.name)
        self.measures.times[task.name].close(self._clock.monotonic())
        del self.tasks[task.name]
        self._retry_at.pop(task.name, None)
        for at in task.inputs:
            del self._by_input[at]
        for name in [name for name in self._changelogs if name[0] == task.name]:
            del self._changelogs[name]

    def _begin_restore(self, task: Task, *, full: bool) -> None:
        """`full` False: the task goes on as it is if the group's committed offsets are still its own."""
        self._pause([at for at in task.inputs if at in self._owned and at not in self._paused])
        if task.state is not TaskState.RESTORING:
            task.go(TaskState.RESTORING)
        task.error = None
        self.restorer.add(task, full=full)

    def _restore(self) -> None:
        self._retry_failed()
        if not len(self.restorer):
            return
        if self.transaction.state is TransactionState.LOST:
            self.transaction.start()
        others_run = any(task.state is TaskState.RUNNING for task in self.tasks.values())
        done = self.restorer.step(5 * self._settings.poll_batch, 0.0 if others_run else 0.02)
        if done:
            positions = {at: offset for task in done for at, offset in task.positions.items()}
            self._consumer.seek(positions)
            self._resume(list(positions))

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

    @property
    def stopping(self) -> bool:
        return self._stopping

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
        return self.measures.backpressured + self.transaction.blocked

    def _has_lag(self, task: Task) -> bool:
        return bool(task.buffered) or any(self.lags_of(task).values())

    @property
    def owned(self) -> int:
        """Partitions assigned to this worker."""
        return len(self._owned)

    @property
    def uncommitted(self) -> int:
        """Records processed since the last commit."""
        return self._uncommitted

    def lags_of(self, task: Task) -> dict[TopicPartition, int]:
        """Records that wait in each of a task's inputs; inputs whose ends were not heard of yet are left out."""
        ends = {at: self._consumer.high_watermark(at) for at in task.inputs if at in self._owned}
        positions = task.positions
        return {at: max(0, end - positions[at]) for at, end in ends.items() if end is not None}

    # ---- the end

    def close(self) -> None:
        """Clean stop: drain, commit, leave, free everything."""
        try:
            self.commit()
        except (TransactionError, TaskFailed, StateDamaged) as error:
            log.warning("the last commit failed, its records will be processed again: %s", error)
            # left open, the transaction would keep those who take over waiting until the broker gives it up
            with suppress(InstanceFenced):
                self._take_back(error)
        self.abandon()

    def abandon(self) -> None:
        """Frees everything without a commit. Never raises on account of Kafka."""
        self._housekeeping.close()
        self._consumer.close()
        self.restorer.close()
        self.transaction.discard()
        for task in list(self.tasks.values()):
            self._close_task(task)
        self._admin.close()
        if self._running_lifespan is not None:
            lifespan, self._running_lifespan = self._running_lifespan, None
            self._loop.run_until_complete(anext(lifespan, None))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        if self.parts.tracer_provider is not None:
            traces.flush(self.parts.tracer_provider)


def _nothing(_: StreamWorker) -> None:
    return


class _ConsumerGroup:
    """The group as the checkpoint sees it."""

    def __init__(self, worker: StreamWorker) -> None:
        self._worker = worker

    def metadata(self) -> object:
        return self._worker._metadata

    def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self._worker._consumer.commit(offsets, {})
