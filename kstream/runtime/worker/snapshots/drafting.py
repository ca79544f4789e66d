"""What is said of a task's state as of now, in a snapshot and in a savepoint."""

from __future__ import annotations

from kstream.runtime.task.task import Task
from kstream.state.snapshots.manifest import Draft, StoredInput, StoredStore


def draft_of(app: str, task: Task, number: int, now: float) -> Draft:
    """As of the last commit, at which the backend is.

    Args:
        number: see `Draft`.
        now: seconds since the epoch.
    """
    return Draft(
        app=app,
        part=task.part.name,
        partition=task.partition,
        number=number,
        taken=now,
        backend=task.backend.kind,
        stores=stores_of(task),
        inputs=[StoredInput(at.topic, at.partition, offset) for at, offset in task.committed.items()],
    )


def stores_of(task: Task) -> dict[str, StoredStore]:
    """The marks of its stores, of those that were ever written to. Raises StateError."""
    found = {}
    for name, store in task.stores.items():
        marks = {family: mark for family in store.families if (mark := task.backend.mark(family)) is not None}
        if name in marks:
            found[name] = StoredStore.of(marks[name], list(marks))
    return found
