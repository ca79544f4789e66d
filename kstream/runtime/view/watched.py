"""What the view needs of the instance that it shows: its workers, their reports, and a way to tell them something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kstream.observe.status import ScalingStatus
from kstream.runtime.process.handle import Watcher, WorkerProcess
from kstream.runtime.process.report import Command


class Watched(Protocol):
    """The supervisor of an instance (`runtime/instance/supervisor.py`)."""

    watchers: list[Watcher]

    @property
    def workers(self) -> Sequence[WorkerProcess]: ...
    @property
    def stopping(self) -> bool: ...
    def tell(self, command: Command) -> None:
        """Tells all workers, those that start later too."""
        ...


class Scalings(Protocol):
    """What is known of workers that follow the load (`runtime/instance/scaling.py`)."""

    @property
    def counts(self) -> Mapping[tuple[str, str], int]: ...
    def status(self) -> list[ScalingStatus]: ...
