"""How the record at fault is found, and what becomes of it.

Batches make records cheap, so a failure first only says that it is among those since the last commit: some record of a
batch, a value that cannot be encoded at the commit, a record that the broker refused. It is found by replay. The task
is taken apart: its records are committed in transactions of their own (`worker/committer.py`), so that what is tried
holds up and takes back nobody else's work:

1. what is known to be good is processed again and committed;
2. the rest is pushed record by record where that tells which one fails, else cut in halves, which a commit tells apart;
3. the record that is alone in its transaction and fails again is the one: its policy decides. Nothing of it is in any
   transaction by then.

A policy stops the task, or leaves the record out, with or without a dead letter (`verdicts.py`).
"""

from __future__ import annotations

from enum import Enum

from kstream.errors import KStreamError, PartitionUnreadable, ProcessingError, StateError, TransactionError

PASSES = (TransactionError, StateError, KeyboardInterrupt)
"""What is no record's failure. All else is, whatever user code raises (`sys.exit`, CancelledError, GeneratorExit): let
through, it would end the worker, again at each of its starts. KeyboardInterrupt is Ctrl-C."""


def place_of(error: KStreamError, task: str) -> dict[str, object]:
    """What is known of where it failed: fields of a log line."""
    if isinstance(error, ProcessingError | PartitionUnreadable):
        return {"task": task, "topic": error.topic, "partition": error.partition, "offset": error.offset}
    return {"task": task}


def without_frames(error: BaseException) -> None:
    """Lets go of what an error that was logged keeps alive: its traces hold the batch that failed, however large."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            left += [one.__cause__, one.__context__]


class PushFailed(Exception):
    """User code or a codec failed on one of `records` records that were pushed together (0: between records). Internal:
    never reaches a user; `error` does. `careless`: the task would have taken it back by itself, had it taken care."""

    def __init__(self, records: int, error: KStreamError, *, careless: bool = False) -> None:
        super().__init__(str(error))
        self.records, self.error, self.careless = records, error, careless


class TaskFailed(Exception):
    """What a task did since its last commit failed. Internal, as above.

    Attributes:
        good: so many of its records since then, the first ones, are not at fault.
        bad: one of so many that follow is; 0: it was no record's fault.
        singly: pushing them one at a time tells which. Otherwise only a commit does.
        careless: as of PushFailed. Nothing is looked for then: it is found when it fails again, with care taken.
    """

    def __init__(
        self, task: str, error: KStreamError, good: int = 0, bad: int = 0, *, singly: bool = False,
        careless: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(str(error))
        self.task, self.error, self.good, self.bad = task, error, good, bad
        self.singly, self.careless = singly, careless


class StateDamaged(Exception):
    """The local state of a task cannot be read or written any more. It is rebuilt from the changelog."""

    def __init__(self, task: str, error: StateError) -> None:
        super().__init__(str(error))
        self.task, self.error = task, error


class _How(Enum):
    WHOLE = "all of it, apart from others"
    SINGLY = "pushed one at a time"
    HALVES = "half of it at a time"


class Search:
    """The search for the record at fault among those after the last commit. False while there is none.

    It knows counts only, in the order in which the task processes. Where a replay takes another order (several inputs),
    a count may be wrong: then the next failure says anew among how many it is, and each success leaves fewer.
    """

    def __init__(self) -> None:
        self._good = 0
        self._suspects = 0
        self._how = _How.WHOLE

    def __bool__(self) -> bool:
        return self._good > 0 or self._suspects > 0

    @property
    def limit(self) -> int:
        """So many records may be in the next transaction."""
        if self._good:
            return self._good
        return (self._suspects + 1) // 2 if self._how is _How.HALVES else self._suspects

    @property
    def alone(self) -> bool:
        """Whether one record is to be alone in the next transaction, the first."""
        return not self._good and self._suspects == 1

    @property
    def singly(self) -> bool:
        """Whether they are to be pushed one at a time."""
        return self._how is _How.SINGLY and not self._good

    def suspect(self, records: int) -> None:
        """One of the tasks in a transaction is at fault, which one is not known: this one goes apart, with as many."""
        self._good, self._suspects, self._how = 0, records, _How.WHOLE

    def apart(self, good: int) -> None:
        """The record behind so many is to be alone in its transaction: Kafka may refuse something of it."""
        self._good, self._suspects, self._how = good, 1, _How.HALVES

    def was_alone(self, failure: TaskFailed) -> bool:
        """Whether one record was alone in the transaction that failed."""
        return bool(self) and failure.good + failure.bad == 1

    def failed(self, failure: TaskFailed) -> bool:
        """The task failed. True when the record at fault was alone in its transaction, or there is none: its policy
        decides. A task that is tried again begins with that record, still apart."""
        if failure.bad == 0:
            return True
        if self.was_alone(failure):
            return True
        self._good, self._suspects = failure.good, failure.bad
        self._how = _How.SINGLY if failure.singly else _How.HALVES
        return False

    def committed(self, records: int) -> None:
        """So many were committed. When none is left, it was a passing failure, and the search is over."""
        innocent = min(records, self._good)
        self._good -= innocent
        self._suspects = max(0, self._suspects - (records - innocent))
