"""States with their legal moves: an illegal one raises."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class TaskState(Enum):
    r"""The states of a task.

        CREATED -> RESTORING <-> RUNNING -> FAILED -> RESTORING
                      ^ |           |         |
                      | v           v         |
                    SUSPENDED <-----+---------+

    A suspended task has lost its partitions for the moment; when they come back it goes through RESTORING, which is
    over at once when nobody else has had them. Every state may go to CLOSED.
    """

    CREATED = "created"
    RESTORING = "restoring"
    RUNNING = "running"
    SUSPENDED = "suspended"
    FAILED = "failed"
    CLOSED = "closed"


TASK_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.CREATED: frozenset({TaskState.RESTORING, TaskState.CLOSED}),
    TaskState.RESTORING: frozenset({TaskState.RUNNING, TaskState.SUSPENDED, TaskState.FAILED, TaskState.CLOSED}),
    TaskState.RUNNING: frozenset({TaskState.RESTORING, TaskState.SUSPENDED, TaskState.FAILED, TaskState.CLOSED}),
    TaskState.SUSPENDED: frozenset({TaskState.RESTORING, TaskState.CLOSED}),
    TaskState.FAILED: frozenset({TaskState.RESTORING, TaskState.SUSPENDED, TaskState.CLOSED}),
    TaskState.CLOSED: frozenset(),
}


S = TypeVar("S", bound=Enum)


def move(what: str, now: S, to: S, moves: Mapping[S, frozenset[S]]) -> None:
    """Raises RuntimeError when `what` may not go from `now` to `to`."""
    if to not in moves[now]:
        raise RuntimeError(f"{what} cannot go from {now.value} to {to.value}")
