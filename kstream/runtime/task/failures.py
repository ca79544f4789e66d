"""How the record at fault is found, and what becomes of it.

Batches make records cheap, so a failure first only says "somewhere in here". The record is found by replay:

1. a batch fails: abort, go back to the committed offsets, and take the records up to its end one at a time;
2. a single record fails: abort, replay up to the record before it and commit that;
3. the record alone fails again: its policy decides. Nothing of it is in any transaction by then.

The only policy so far is to stop the task; retry, skip and dead letters will decide at the same place.
"""

from __future__ import annotations

from kstream.errors import KStreamError, ProcessingError, StateError
from kstream.types import TopicPartition


def place_of(error: KStreamError, task: str) -> dict[str, object]:
    """What is known of where it failed: fields of a log line."""
    if isinstance(error, ProcessingError):
        return {"task": task, "topic": error.topic, "partition": error.partition, "offset": error.offset}
    return {"task": task}


class BatchFailed(Exception):
    """User code or a codec failed somewhere in a batch of several records. Internal: never reaches a user."""

    def __init__(self, at: TopicPartition, last_offset: int, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.at, self.last_offset, self.cause = at, last_offset, cause


class TaskFailed(Exception):
    """What a task does failed for good: a single record of it, or what it has to commit. Internal, as above."""

    def __init__(self, task: str, error: KStreamError) -> None:
        super().__init__(str(error))
        self.task, self.error = task, error


class StateDamaged(Exception):
    """The local state of a task cannot be read or written any more. It is rebuilt from the changelog."""

    def __init__(self, task: str, error: StateError) -> None:
        super().__init__(str(error))
        self.task, self.error = task, error


class Suspicion:
    """What a task knows of the record at fault, over aborts and replays."""

    def __init__(self) -> None:
        self._one_by_one_to: dict[TopicPartition, int] = {}
        self._alone: tuple[TopicPartition, int] | None = None

    @property
    def any(self) -> bool:
        return bool(self._one_by_one_to) or self._alone is not None

    def batch_failed(self, at: TopicPartition, last_offset: int) -> None:
        self._one_by_one_to[at] = last_offset

    def record_failed(self, error: ProcessingError) -> bool:
        """A single record failed. True when it had been alone in its transaction, so that its policy decides now."""
        at = TopicPartition(error.topic, error.partition)
        decided = self._alone == (at, error.offset)
        self._alone = None if decided else (at, error.offset)
        return decided

    def one_by_one(self, at: TopicPartition, offset: int) -> bool:
        """Whether the record at this offset must be taken singly."""
        until = self._one_by_one_to.get(at)
        if until is None:
            return False
        if offset > until:
            del self._one_by_one_to[at]
            return False
        return True

    def alone(self, at: TopicPartition, offset: int) -> bool:
        """Whether everything before this record must be committed first."""
        return self._alone == (at, offset)

    def passed(self, at: TopicPartition, offset: int) -> None:
        """The record went through after all: the failure was a passing one."""
        if self._alone == (at, offset):
            self._alone = None

    def clear(self) -> None:
        self._one_by_one_to.clear()
        self._alone = None
