"""How many instances an autoscaler must leave alone: all of an isolation group while a task of it is restored anywhere.

One that goes meanwhile takes what it has restored with it: its partitions move, and others restore them from the
beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from kstream.observe.status import TaskStatus
from kstream.runtime.task.states import TaskState

_RESTORING: Final = frozenset({TaskState.CREATED.value, TaskState.RESTORING.value})


def held(
    groups: Iterable[str], instances: Iterable[tuple[Iterable[str], Iterable[TaskStatus]]], unread: int = 0
) -> dict[str, int]:
    """By isolation group.

    Args:
        groups: those that are asked for. Each gets a number: an autoscaler that finds none takes it for a failure.
        instances: of each that is heard of, the groups of its workers and its tasks.
        unread: how many more there are whose announcements are of a later version. What they do is not known: they may
            be of each group, and restore.
    """
    if unread:
        groups, instances = list(groups), list(instances)
        return {group: unread + sum(group in set(own) for own, _ in instances) for group in groups}
    members: Counter[str] = Counter()
    restoring: set[str] = set()
    for own, tasks in instances:
        members.update(set(own))
        restoring.update(task.group for task in tasks if task.state in _RESTORING)
    return {group: members[group] if group in restoring else 0 for group in groups}
