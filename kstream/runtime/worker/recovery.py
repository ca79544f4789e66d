"""What may go wrong in a worker, and what is done about it: take back, start over, restore, rebuild, try again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from kstream.backoff import Pauses
from kstream.config import Settings
from kstream.errors import (
    AbortRequired,
    CheckpointsFailed,
    KStreamError,
    ProcessingError,
    ProducerLost,
    RecordRefused,
    RestartsExhausted,
    ResultFailed,
    SnapshotsFailed,
    StateError,
    TimerFailed,
    TopicError,
    TransactionError,
)
from kstream.runtime.task.blame import raised_in
from kstream.runtime.task.failures import StateDamaged, TaskFailed, place_of, without_frames
from kstream.runtime.task.lost_topics import LOST, lost_topic, refusal_in
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.committer import Committer
from kstream.runtime.worker.inputs import MEND, Inputs
from kstream.runtime.worker.limits import SizeLimits
from kstream.runtime.worker.restore import Restorer
from kstream.runtime.worker.snapshots.taking import Snapshots
from kstream.runtime.worker.states import TransactionState
from kstream.runtime.worker.tasks import Tasks
from kstream.runtime.worker.transaction import Transaction
from kstream.specs.restart import strategy_of
from kstream.types import Clock

log = logging.getLogger(__name__)

NO_CHANGELOG: Final = LOST | {"_UNKNOWN_PARTITION"}
"""What Kafka says of records for a changelog that is not there, or is not this user's: its partition is the task's."""

FINER: Final = 4
"""Beside tasks that have records a restore takes so much less than a poll at a time: they wait for each step of it."""

MEND_CHANGELOG: Final = "give this user the right to it; where it was deleted, reset the app"


class Recovery:
    """See the module's text.

    Args:
        raise_failures: a failed task ends the worker with its error, instead of being tried again after a pause.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        tasks: Tasks,
        transaction: Transaction,
        committer: Committer,
        restorer: Restorer,
        inputs: Inputs,
        measures: Measures,
        snapshots: Snapshots | None,
        limits: SizeLimits,
        *,
        raise_failures: bool,
    ) -> None:
        self._snapshots, self._limits = snapshots, limits
        self._settings, self._clock, self._raise_failures = settings, clock, raise_failures
        self._tasks, self._transaction, self._committer = tasks, transaction, committer
        self._restorer, self._inputs, self._measures = restorer, inputs, measures
        self._restart = strategy_of(settings)
        self._pauses: dict[str, Pauses] = {}  # of tasks that failed
        self._commits = self._failed_commits = 0  # when one failed last; those that failed since a commit
        self.aborts = 0  # transactions that were taken back so far

    def handling(self, call: Callable[[], None]) -> None:
        """Makes the call; each failure of it leads to what mends it.

        Raises:
            InstanceFenced: another process runs under this identity.
            ProcessingError: a record failed, with `raise_failures`.
            CheckpointsFailed: more commits in a row failed than `tolerable_failed_checkpoints`.
            RestartsExhausted: a task failed more often than its restart strategy allows.
            TopicError: no input can be read, and this worker has never been given anything to read.
        """
        try:
            call()
        except TaskFailed as failed:
            self._task_failed(self._tasks.all[failed.task], failed)
        except SnapshotsFailed as failed:  # no record is at fault
            task = self._tasks.all[failed.task]
            if task.state is TaskState.RUNNING:
                self._abort(failed, task, told=True)
                self._fail(task, failed)
        except TopicError as error:
            if not error.topics or self._lacks_all(error.topics):
                raise
            self._cannot_read(error)
        except StateDamaged as damaged:
            self._measures.failed("state", damaged)
            if damaged.task in self._tasks.all:  # it may have left while its state was flushed
                self._rebuild(self._tasks.all[damaged.task], damaged.error)
        except (AbortRequired, ProducerLost) as error:
            if error.refused and self._seek_refused(error):
                return  # counted when found
            self._measures.failed("commit", error)
            self._tolerate(error)
            if isinstance(error, ProducerLost):
                self._start_over(error)
            else:
                self._abort(error)

    def _tolerate(self, error: TransactionError) -> None:
        """A commit failed, of which no record is at fault. Too many in a row are the worker's end: what is open then
        is aborted when its successor starts."""
        if self._committer.commits != self._commits:
            self._commits, self._failed_commits = self._committer.commits, 0
        self._failed_commits += 1
        most = self._settings.tolerable_failed_checkpoints
        if most is not None and self._failed_commits > most:
            raise CheckpointsFailed(
                f"{self._failed_commits} commits in a row failed, more than tolerable_failed_checkpoints={most}; "
                f"the last: {error}"
            ) from error

    def _seek_refused(self, error: TransactionError) -> bool:
        """The broker refused a record of the transaction, for good: what caused it is looked for among the tasks that
        were in it. False when none was. A search that began in the middle of the transaction, which nobody watched, has
        its record alone the next time."""
        # one that has put out nothing is to be committed next
        inside = (one for one in self._tasks.running if one.takes_part and one.has_put_out)
        tasks = [one for one in inside if one.uncommitted or one.plan.tellers]
        if not tasks:
            return False
        searched = any(task.search or not task.uncommitted for task in tasks)  # not so: it may be looked at right away
        if len(tasks) == 1 and (self._transaction.watched or not searched):
            (task,) = tasks
            refused = self._transaction.named(error) if task.search else error
            self._task_failed(task, TaskFailed(task.name, refused, 0, task.uncommitted, singly=False), refused)
            return True
        for task in tasks:
            task.search.suspect(max(1, task.uncommitted))
        if isinstance(error, ProducerLost):
            self._start_over(error)
        else:
            self._abort(error)
        return True

    # ---- transactions

    def _abort(self, error: BaseException, failed: Task | None = None, *, told: bool = False) -> None:
        """Takes the transaction back; every task that had a part in it goes on from its committed offsets."""
        self._go_on(error, self.take_back(error, failed, told=told))

    def _go_on(self, error: BaseException, tasks: Sequence[Task]) -> None:
        """With these, which were taken back."""
        if self._transaction.state is TransactionState.LOST or not self._transaction.exactly_once:
            self._start_over(error, tasks)
        elif tasks:
            self._tasks.seek({at: offset for task in tasks for at, offset in task.committed.items()})

    def take_back(self, error: BaseException, failed: Task | None = None, *, told: bool = False) -> list[Task]:
        """Aborts, and rewinds the tasks of which something was in it. Returns them.

        Args:
            failed: the task that failed; it is rewound in any case.
            told: there is another line about the error.
        """
        log.log(logging.DEBUG if told else logging.WARNING, "transaction aborted: %s", error)
        self.aborts += 1
        try:
            self._transaction.abort()
        except ProducerLost as lost:
            log.warning("%s", lost)
        tasks = [task for task in self._tasks.running if task is failed or task.takes_part]
        for task in tasks:
            task.rewind()
        self._committer.start_anew()
        return tasks

    def _start_over(self, error: BaseException, tasks: Sequence[Task] | None = None) -> None:
        """The outcome of the transaction is unknown: new producer, and every task of which something was in it is
        restored. The state of the others is that of their last commit, whose outcome is known.

        Args:
            tasks: that were in it, where they are rewound already.
        """
        log.warning("making a new producer and restoring the tasks that were in the transaction: %s", error)
        self._measures.producer_restarts += 1
        try:
            self._transaction.start()
        except ProducerLost as lost:  # whoever needs a producer next tries again: an outage ends no worker
            log.warning("there is no new producer yet: %s", lost)
        for task in [task for task in self._tasks.running if task.takes_part] if tasks is None else tasks:
            self.restore(task, full=True)
        self._committer.start_anew()

    # ---- tasks

    def _rebuild(self, task: Task, error: StateError) -> None:
        """Local state is damaged: wiped and restored. So are the others restored: if this came up right after a
        commit, they may not have it yet."""
        log.error(
            "task %s: %s; its local state is rebuilt from the changelog", task.name, error, extra={"task": task.name}
        )
        tasks = self.take_back(error, task, told=True)
        self.close(task)
        self._tasks.wipe(task)
        for other in tasks:
            if other is not task:
                self.restore(other, full=True)
        self.restore(self._tasks.open(task.part, task.partition), full=True)

    def _task_failed(self, task: Task, failure: TaskFailed, refused: KStreamError | None = None) -> None:
        """A record, or what a task has to commit, failed. The record is made sure of first (see failures.py).

        Args:
            refused: what the broker said. A policy decides only where that is surely about a record.
        """
        if (lost := self._lost_topic(task, failure.error)) is not None:
            if self._letter_goes_apart(task, failure.error):
                return
            failure = TaskFailed(task.name, lost)
        failure = task.handling.of_a_result(failure)
        if failure.careless:
            self._abort(failure.error, task)
            task.handling.care.take()
            self._advise_care(task)
            return
        error, found = failure.error, task.search.failed(failure)
        if found and failure.bad and not isinstance(error, ProcessingError):
            error = task.located(raised_in(error))
        about_a_record = found and failure.bad > 0 and isinstance(refused, RecordRefused | None)
        goes_on = (
            about_a_record and isinstance(error, ProcessingError) and task.handling.decide_late(error, task.uncommitted)
        )
        self._abort(error, task, told=found)  # a line about the record, the timer or the task says it
        if isinstance(error.__cause__, ResultFailed) and error.__cause__.goes_on:
            return
        if goes_on:
            task.search.suspect(1)  # it comes first, and stays apart until it is committed
            self._advise_care(task)
        elif found:
            self._fail(task, error)

    def _advise_care(self, task: Task) -> None:
        """What failed here may fail in the other partitions, and would cost as much in each of them."""
        for other in self._tasks.all.values():
            other.handling.care.advised |= other.part is task.part

    def _letter_goes_apart(self, task: Task, error: KStreamError) -> bool:
        """Where what cannot be written is a dead letter, or a record that is set aside: what comes before its record is
        committed first, and it is tried alone. False where it was."""
        refused = refusal_in(error)
        topic = refused.topic if refused else error.topic if isinstance(error, TransactionError) else None
        good = task.handling.letters.get(topic) if topic else None
        if good is None or (task.search.alone and good == 0):
            return False
        task.search.apart(good)
        self._abort(error, task)
        return True

    def _lost_topic(self, task: Task, error: KStreamError) -> TopicError | None:
        """What is said where a topic that the task writes to is gone, or may not be written: no record's fault."""
        refused = refusal_in(error)
        if (
            refused is not None
            and refused.code in NO_CHANGELOG
            and any(self._restorer.changelog(task, store).topic == refused.topic for store in task.stores)
        ):
            return TopicError(f"task {task.name}: {refused}: {MEND_CHANGELOG}")
        lost = lost_topic(error, task.part, task.plan)
        return None if lost is None else TopicError(f"task {task.name}: {lost}")

    def _lacks_all(self, topics: Sequence[str]) -> bool:
        """Whether a worker that begins has nothing to do without these."""
        return not self._tasks.assigned and (self._raise_failures or not self._inputs.others_than(topics))

    def _cannot_read(self, error: TopicError) -> None:
        """Topics are gone, or may not be read, which is no record's fault: the tasks that read them stop, together, be
        they inputs or changelogs that are replayed.
        Of an input that is gone the group takes the partitions away, and the tasks are closed: `Inputs` knows what is
        said of them then."""
        self._inputs.doubt()
        replaying = self._restorer.replay.reading(error.topics)
        readers = [
            task
            for task in self._tasks.all.values()
            if task.state in (TaskState.RUNNING, TaskState.RESTORING)
            and (task.name in replaying or any(at.topic in error.topics for at in task.inputs))
        ]
        if not readers:
            log.warning("%s; no task of this worker reads it now", error)
            return
        in_it = any(task.takes_part for task in readers)
        taken_back = self.take_back(error, told=True) if in_it else []
        for task in readers:
            task.rewind()
            problem = f"task {task.name}: {error}: {MEND}"
            self._fail(task, TopicError(problem, *error.topics))
        if in_it:  # without those that stopped: where the client has given a partition up, it cannot be sought
            self._go_on(error, [task for task in taken_back if task not in readers])

    def _fail(self, task: Task, error: KStreamError) -> None:
        """The task stops, and is tried again after a pause."""
        of_timer = "timer" if isinstance(error.__cause__, TimerFailed) else "commit"
        self._measures.failed("process" if isinstance(error, ProcessingError) else of_timer, error)
        self._limits.add_to(error)
        task.error = error
        if self._raise_failures:
            raise error
        pause = self._pause_before_retry(task, error)
        self._interrupt(task)
        task.go(TaskState.FAILED)
        self._tasks.pause(task)
        log.error(
            "%s; the task is tried again in %.1f s%s", error, pause, self._no_policy(task, error),
            exc_info=error.__cause__, extra=place_of(error, task.name),
        )  # fmt: skip
        without_frames(error)

    def _no_policy(self, task: Task, error: KStreamError) -> str:
        if any(task.part.policies) or not isinstance(error, ProcessingError):
            return ""
        return "; the app has no policy (on_error=) that would leave such a record out"

    def _pause_before_retry(self, task: Task, error: KStreamError) -> float:
        pauses = self._pauses.get(task.name)
        if pauses is None:
            pauses = self._pauses[task.name] = self._restart.pauses()
        pauses.failed(self._clock.monotonic())
        if pauses.exhausted:
            what = f"{error}; the task is not tried again ({self._restart.words()})"
            raise RestartsExhausted(what) from error
        return pauses.pause

    def _interrupt(self, task: Task) -> None:
        """It does not run, for the moment."""
        if self._snapshots is not None:
            self._snapshots.interrupt(task)
        self._restorer.drop(task)

    def close(self, task: Task) -> None:
        if self._snapshots is not None:
            self._snapshots.forget(task)
        self._restorer.drop(task)
        self._tasks.close(task)
        self._pauses.pop(task.name, None)

    # ---- restores

    def restore(self, task: Task, *, full: bool) -> None:
        """`full` False: the task goes on as it is if its last commit is still the group's."""
        self._interrupt(task)
        self._tasks.pause(task)
        if task.state is not TaskState.RESTORING:
            task.go(TaskState.RESTORING)
        task.error = None
        self._restorer.add(task, full=full)

    def suspend(self) -> None:
        """The partitions are gone for the moment: nothing is restored or run."""
        for task in self._tasks.all.values():
            self._interrupt(task)
            if task.state in (TaskState.RUNNING, TaskState.RESTORING, TaskState.FAILED):
                task.go(TaskState.SUSPENDED)

    def step(self) -> None:
        """Failed tasks whose pause is over are tried again; restores go on; tasks that are restored run."""
        self._retry_failed()
        if not len(self._restorer):
            return
        if self._transaction.state is TransactionState.LOST:
            self._transaction.start()
        beside = self._restorer.restraint.beside(self._committer.records)
        # Without any wait the loop would turn for each few records that come, and take the time from who brings them.
        wait = 0.0 if beside else 0.005 if self._tasks.running else 0.02
        batch = self._settings.poll_batch
        try:
            self._restorer.step(max(1, batch // FINER) if beside else 5 * batch, wait, beside=beside)
            for task in self._restorer.finish():
                self._tasks.go_on_at(task.positions)
        except TaskFailed as failed:  # it was not running: nothing of it is in the transaction
            self._fail(self._tasks.all[failed.task], failed.error)

    def _retry_failed(self) -> None:
        for task in self._tasks.all.values():
            if task.state is TaskState.FAILED and self._clock.monotonic() >= self._pauses[task.name].due:
                task.measures.retries += 1
                self.restore(task, full=False)
