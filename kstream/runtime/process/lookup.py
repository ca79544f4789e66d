"""A look-up in a worker's tables: what is committed there, by key."""

from __future__ import annotations

from collections.abc import Iterable

from kstream.errors import StateError
from kstream.runtime.process.report import Answer, Lookup
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task


def look_up(tasks: Iterable[Task], asked: Lookup) -> Answer:
    """The committed value, from the backends: changes since the last commit are not in them yet."""
    answer = Answer(asked.number)
    for task in tasks:
        if task.state is not TaskState.RUNNING or asked.store not in task.stores:
            continue
        answer.partitions.append(task.partition)
        try:
            (value,) = task.backend.multi_get(asked.store, [asked.key])
        except StateError:  # damaged: what uses it next finds out, and rebuilds it
            answer.partitions.pop()
            continue
        if value is not None and (seen := task.stores[asked.store].seen(value)) is not None:
            answer.value = seen
    return answer
