"""Partitions that cannot be read on: what lies at their position is corrupt, or unpacks to more than the client takes.

The client says so as soon as it comes across it, and again and again; the records before it may not be processed yet.
They are, and are committed; then the task fails, and no other.
"""

from __future__ import annotations

from kstream.errors import PartitionUnreadable
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.committer import Committer
from kstream.runtime.worker.tasks import Tasks
from kstream.types import TopicPartition


class Unreadable:
    """See the module's text."""

    def __init__(self, tasks: Tasks, committer: Committer) -> None:
        self._tasks, self._committer = tasks, committer
        self._told: dict[TopicPartition, PartitionUnreadable] = {}

    def __bool__(self) -> bool:
        return bool(self._told)

    def tell(self, error: PartitionUnreadable) -> None:
        self._told[TopicPartition(error.topic, error.partition)] = error

    def step(self) -> None:
        """Raises TaskFailed where all before such a place is processed and committed, and whatever a commit raises."""
        for at, error in list(self._told.items()):
            task = self._tasks.reading(at)
            if task is None or task.state is not TaskState.RUNNING:
                del self._told[at]
            elif not task.busy and not task.reading.has(at):
                del self._told[at]  # where the commit fails, what is before it is read again, and it is told again
                if task.takes_part:
                    self._committer.commit()
                raise TaskFailed(task.name, error.of(task.name))
