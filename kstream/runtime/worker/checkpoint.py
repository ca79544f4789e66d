"""The one place where anything is committed: outputs, offsets and state, together or not at all.

What a crash after each step leaves behind, and what the restart does about it, is in docs/exactly-once.md;
tests/faults kills a worker around every step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from kstream.errors import AbortRequired, KStreamError, StateDirectoryError, StateError, TransactionError
from kstream.operators import marks
from kstream.operators.marks import Mark as TimeMark
from kstream.runtime.task.failures import PushFailed, StateDamaged, TaskFailed
from kstream.runtime.task.task import Task
from kstream.runtime.worker import offsets as beside
from kstream.runtime.worker.transaction import Transaction
from kstream.state.backend import Changes, Mark
from kstream.state.changelog import Changelog
from kstream.types import Clock, TopicPartition


class Group(Protocol):
    """What a checkpoint needs of the consumer: its group's metadata, or a plain commit of offsets."""

    def metadata(self) -> object: ...
    def commit(self, offsets: dict[TopicPartition, int], metadata: dict[TopicPartition, str]) -> None: ...


def checkpoint(
    tasks: Sequence[Task],
    changelogs: Callable[[Task, str], Changelog],
    transaction: Transaction,
    group: Group,
    clock: Clock,
    drain: Callable[[Sequence[Task]], None],
    confirm: Callable[[Sequence[Task]], None],
) -> int:
    """Commits what these tasks did since the last checkpoint. Returns how many tasks that were.

    The caller has drained their agents (step 1) and feeds nothing meanwhile.

    Args:
        drain: lets agents reach the end of what they have.
        confirm: looks once more whether what was read is what the state belongs to, before it is committed.

    Raises:
        TaskFailed: what a task has to commit cannot be encoded, or must not be committed: abort, and stop that task.
        AbortRequired: nothing was committed: abort and rewind.
        ProducerLost: whether it was committed is unknown: new producer, restore.
        StateDamaged: it was committed, but the local state could not follow: rebuild it from the changelog, and
            restore the others too, for they may not have followed either.
    """
    touched = [task for task in tasks if task.touched]
    if not touched:
        return 0
    flush_operators(touched, drain)
    tell_time(touched, transaction, clock)
    if not transaction.exactly_once:
        transaction.deliver()
    write_changelogs(touched, changelogs, transaction)
    if transaction.exactly_once:
        send_offsets(touched, transaction, group)
        confirm(touched)
        commit_transaction(transaction)
        apply_to_state(touched, changelogs, clock)
    else:
        confirm(touched)
        offsets, metadata = offsets_of(touched), metadata_of(touched)
        commit_transaction(transaction)
        apply_to_state(touched, changelogs, clock)
        try:
            group.commit(offsets, metadata)
        except KStreamError:
            for task in touched:
                task.touched = True  # its offsets are not committed: it is to be restored
            raise
    return len(touched)


def flush_operators(tasks: Sequence[Task], drain: Callable[[Sequence[Task]], None]) -> None:
    """Step 1, the end of it: operators emit what they held back for the commit (agents may take it, and are waited
    for), stores remove what has expired, and encode what changed."""
    for task in tasks:
        with attributed(task):
            task.flush()
    drain(tasks)
    for task in tasks:
        with attributed(task):
            task.ageing.clean_up(task.uncommitted)
            for store in task.stores.values():
                store.encode_changes()
                if store.verify:
                    store.mutations.verify(store)


def tell_time(tasks: Sequence[Task], transaction: Transaction, clock: Clock) -> None:
    """Behind all that they wrote: what time it is in each, to those who read it. One record tells it of all tasks, so
    what fails with it is laid at the first."""
    said: defaultdict[tuple[str, int], list[tuple[Task, TimeMark]]] = defaultdict(list)
    for task in tasks:
        with attributed(task):
            if task.ageing.tells and (mark := task.ageing.tell(task.reading)) is not None:
                for told in task.ageing.tells.items():
                    said[told].append((task, mark))
    for (topic, partitions), pairs in said.items():
        with attributed(pairs[0][0]):
            marks.write(transaction, topic, partitions, [mark for _, mark in pairs], round(clock.time() * 1000))


def write_changelogs(
    tasks: Sequence[Task], changelogs: Callable[[Task, str], Changelog], transaction: Transaction
) -> None:
    """Step 2: each changed entry goes to its changelog, once."""
    for task in tasks:
        for name, store in task.stores.items():
            with attributed(task):
                changes = store.stored_changes()
                if changes:
                    changelogs(task, name).write(changes, transaction)


def offsets_of(tasks: Sequence[Task]) -> dict[TopicPartition, int]:
    return {at: position for task in tasks for at, position in task.positions.items()}


def metadata_of(tasks: Sequence[Task]) -> dict[TopicPartition, str]:
    return {at: text for task in tasks for at, text in beside.metadata_of(task, task.commits + 1).items()}


def send_offsets(tasks: Sequence[Task], transaction: Transaction, group: Group) -> None:
    """Step 3: processed + 1 for every input of every task that did anything, moved or not: this is what fences a
    worker that no longer owns them. The metadata is that of the assignment under which the work was done."""
    offsets = offsets_of(tasks)
    if not offsets:
        raise AbortRequired("a transaction without offsets cannot be fenced")
    transaction.send_offsets(offsets, group.metadata(), metadata_of(tasks))


def commit_transaction(transaction: Transaction) -> None:
    """Step 4: from here on it has happened."""
    transaction.commit()


def apply_to_state(tasks: Sequence[Task], changelogs: Callable[[Task, str], Changelog], clock: Clock) -> None:
    """Step 5: the local state follows, all stores of a task in one write, with how far their changelogs are in it."""
    now = clock.time()
    for task in tasks:
        try:
            changes, marks = _local_changes(task, changelogs, now)
            if changes or marks:
                task.backend.write(changes, marks)
        except StateError as error:
            raise StateDamaged(task.name, error) from error
        for store in task.stores.values():
            store.committed()
        task.was_committed(now)


def _local_changes(
    task: Task, changelogs: Callable[[Task, str], Changelog], now: float
) -> tuple[dict[str, Changes], dict[str, Mark]]:
    """Of all stores of a task. An expiry index is read for it."""
    changes: dict[str, Changes] = {}
    marks: dict[str, Mark] = {}
    for name, store in task.stores.items():
        changed, changelog = store.local_changes(), changelogs(task, name)
        if store.batch_keys:
            task.measures.stores[name].used(store.batch_keys)
            store.batch_keys = ()
        if changed:
            changes |= changed
            if stored := store.stored_changes():
                task.measures.stores[name].wrote(stored)
        elif changelog.renewed_to is not None:
            changelog.next_offset, changelog.renewed_to = changelog.renewed_to, None
        else:
            continue
        if changelog.next_offset is not None:
            marks |= dict.fromkeys(store.families, Mark(changelog.next_offset, now, changelog.packed))
    return changes, marks


@contextmanager
def attributed(task: Task) -> Iterator[None]:
    """What fails inside belongs to this task: one of its records since the last commit is at fault, unless it is what
    its state lies on."""
    try:
        yield
    except PushFailed as failed:
        raise TaskFailed(
            task.name, failed.error, task.uncommitted, failed.records, singly=True, careless=failed.careless
        ) from failed
    except StateError as error:
        raise StateDamaged(task.name, error) from error
    except TransactionError:
        raise
    except StateDirectoryError as error:
        raise TaskFailed(task.name, error) from error
    except KStreamError as error:
        raise TaskFailed(task.name, error, 0, task.uncommitted, singly=False) from error
