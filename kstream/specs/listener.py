"""Functions of the user's that are told of checkpoints, as Flink's CheckpointListener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["commit", "snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that is complete, or was aborted.

    Attributes:
        id: of this attempt: no other has it, of no worker of any instance, before or after a restart.
        kind: "commit": outputs, offsets and state of a worker, committed in one transaction; "snapshot": a copy of the
            state of a task.
        worker: that made it, by its name.
        at: when it began, seconds since the epoch.
        seconds: how long it took.
        tasks, records: that are in it.
        error: why it was aborted; None where it is complete.
    """

    id: str
    kind: Kind
    worker: str
    at: float
    seconds: float
    tasks: int = 0
    records: int = 0
    error: str | None = None


CheckpointListener = Callable[[Checkpoint], object]
"""What it returns is not used."""


@dataclass(slots=True)
class CheckpointListeners:
    """Those of an app, in the order in which they were declared."""

    complete: list[CheckpointListener] = field(default_factory=list)
    aborted: list[CheckpointListener] = field(default_factory=list)

    def of(self, checkpoint: Checkpoint) -> list[CheckpointListener]:
        return self.complete if checkpoint.error is None else self.aborted

    def __bool__(self) -> bool:
        return bool(self.complete or self.aborted)
