"""Worker processes that say and do what a test tells them, on a clock of its own."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.report import Command, Handover, Report
from kstream.testing import ManualClock


class FakeProcess:
    """Implements `kstream.runtime.process.handle.Process`.

    Attributes:
        told, signals: what it was told and sent so far.
        stubborn: it does not end when asked to (SIGTERM).
    """

    def __init__(self, pid: int, handover: Handover) -> None:
        self.pid, self.handover = pid, handover
        self.name = Identity(handover.app, handover.instance, handover.index, handover.group).worker
        self.told: list[Command] = []
        self.signals: list[signal.Signals] = []
        self.stubborn = self.closed = False
        self.status: int | None = None
        self.unheard: list[Report] = []

    # ---- told by a test

    def say(self, report: Report) -> None:
        self.unheard.append(report)

    def exit(self, status: int, report: Report | None = None) -> None:
        self.status = status
        self.unheard += [] if report is None else [report]

    # ---- told by the supervisor

    def read(self) -> Sequence[Report]:
        reports, self.unheard = self.unheard, []
        return reports

    def tell(self, command: Command) -> None:
        self.told.append(command)

    def take_queries(self) -> None:
        """It answers none."""

    def signal(self, how: signal.Signals) -> None:
        if self.status is not None:
            return
        self.signals.append(how)
        if how is signal.SIGKILL or not self.stubborn:
            self.status = -how if how is signal.SIGKILL else 0

    def ended(self) -> int | None:
        return self.status

    def close(self) -> None:
        assert self.status is not None and not self.closed
        self.closed = True


class FakeProcesses:
    """Implements `kstream.runtime.process.handle.Processes`. Its waits take the time they are given."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.made: list[FakeProcess] = []

    def start(self, handover: Handover) -> FakeProcess:
        process = FakeProcess(1000 + len(self.made), handover)
        self.made.append(process)
        return process

    def wait(self, seconds: float) -> Sequence[FakeProcess]:
        speaking = [process for process in self.made if process.unheard and not process.closed]
        if not speaking:
            self._clock.advance(seconds)
        return speaking

    @property
    def alive(self) -> list[str]:
        return [process.name for process in self.made if process.status is None]

    def latest(self, name: str) -> FakeProcess:
        return [process for process in self.made if process.name == name][-1]
