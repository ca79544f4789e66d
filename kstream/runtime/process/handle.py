"""A worker as the supervisor sees it: its place in the instance, which outlives its processes, and the process it has.

`launching.py` makes real processes; tests have some that are told what to say.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from kstream.backoff import Pauses
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.liveness import Liveness
from kstream.runtime.process.report import Command, Handover, Held, Report, taken_over
from kstream.runtime.process.states import PROCESS_MOVES, ProcessState
from kstream.runtime.task.states import move
from kstream.specs.restart import strategy_of

REMEMBERED_SECONDS: Final = 10.0
"""What held a worker up for a moment is named for so long: slow records may come one after the other."""


class Process(Protocol):
    """A process of a worker, from its start to its end."""

    @property
    def pid(self) -> int: ...
    def read(self) -> Sequence[Report]:
        """What it said since the last time. Never waits."""
        ...

    def tell(self, command: Command) -> None:
        """Never waits: what it does not take now it is told later."""
        ...

    def take_queries(self) -> socket.socket | None:
        """The socket over which it answers queries of its state, if it does: the first who asks has it, on any thread,
        and closes it."""
        ...

    def signal(self, how: signal.Signals) -> None:
        """Nothing happens to one that has ended."""
        ...

    def ended(self) -> int | None:
        """Its exit status, negative the signal that killed it; None while it runs."""
        ...

    def close(self) -> None:
        """Frees what is held for one that has ended."""
        ...


class Processes(Protocol):
    """Makes processes, and waits for what they say."""

    def start(self, handover: Handover) -> Process: ...
    def wait(self, seconds: float) -> Sequence[Process]:
        """Those that have said something, as soon as there is one; none after that time."""
        ...


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker of an instance.

    Attributes:
        pauses: those before its restarts; the next one is due at `start_at` while it is RESTARTING.
        added: it was started because of the load (see scaling.py), not with the instance.
        process: while its state has one.
        report: the latest; `heard` is when it came (monotonic).
        held: what held it up last, as its watchdog said at `held_at`; None once that is long over.
        stands: it is not over.
        status: the exit status of its last process; last_error: what ended it, where it is started again.
        fenced: when that was because another one has its name.
        warned: when it was said last that it is silent for long.
        liveness: whether it does its work, as far as it reports.
        killed_for: why the supervisor killed its last process, where it did.
        spared: it is to be killed, but the brokers do not answer: no restart would help.
    """

    identity: Identity
    pauses: Pauses
    added: bool = False
    state: ProcessState = ProcessState.NEW
    process: Process | None = None
    report: Report = field(default_factory=Report)
    started: float = 0.0
    heard: float = 0.0
    held: Held | None = None
    held_at: float = 0.0
    stands: bool = False
    restarts: int = 0
    status: int | None = None
    last_error: str | None = None
    fenced: float = float("-inf")
    warned: float = float("-inf")
    liveness: Liveness = field(default_factory=Liveness)
    killed_for: str | None = None
    spared: bool = False

    @property
    def name(self) -> str:
        return self.identity.worker

    @property
    def group(self) -> str:
        return self.identity.isolation

    @property
    def index(self) -> int:
        return self.identity.index

    @property
    def runs(self) -> bool:
        return self.state.has_process

    @property
    def refusal(self) -> str:
        """What the user is told of its end, where that was not on account of something that passes."""
        said = self.report.stopped_by or ""
        return taken_over(self.identity.instance, said) if self.report.fenced else said

    @property
    def pid(self) -> int | None:
        """Of a process that may have ended since it was looked at."""
        return None if self.process is None else self.process.pid

    @property
    def start_at(self) -> float | None:
        return self.pauses.due if self.state is ProcessState.RESTARTING else None

    def go(self, to: ProcessState) -> None:
        """Raises RuntimeError when it may not go there."""
        move(f"worker {self.name}", self.state, to, PROCESS_MOVES)
        self.state = to

    def begin(self, process: Process, now: float) -> None:
        self.go(ProcessState.STARTING)
        self.process, self.report = process, Report()
        self.held, self.stands, self.killed_for, self.spared = None, False, None, False
        self.liveness.begin(now)
        self.started = self.heard = now

    def stop(self) -> None:
        """Asks it to drain, commit and leave."""
        assert self.process is not None
        self.process.signal(signal.SIGTERM)
        self.process.tell(Command(stop=True))

    def hear(self, report: Report, now: float) -> None:
        if report.held is not None:  # the worker itself is as silent as before
            self.held, self.held_at, self.stands = report.held, now, True
            return
        self.report, self.heard, self.stands = report, now, False
        self.liveness.hear(report, now)
        if now - self.held_at > REMEMBERED_SECONDS:
            self.held = None
        if report.joined and self.state is ProcessState.STARTING:
            self.go(ProcessState.RUNNING)

    def end(self, status: int, to: ProcessState) -> None:
        """Its process has ended."""
        assert self.process is not None
        self.status = status
        self.process.close()
        self.process = None
        self.go(to)


def pauses_from(settings: Settings) -> Pauses:
    """Those before the restarts of a worker."""
    return strategy_of(settings).pauses()


def held_by(worker: WorkerProcess) -> str:
    """Why a silent worker says nothing, as far as its watchdog knows."""
    if worker.held is None or not worker.stands:
        return "the reason is not known"
    task = "" if worker.held.task is None else f", in task {worker.held.task}"
    record = "" if worker.held.record is None else f", at {worker.held.record}"
    return worker.held.words() + task + record


class Watcher(Protocol):
    """Who wants to know what happens to the workers (`runtime/view/observer.py`). Called on the supervisor's thread."""

    def heard(self, worker: WorkerProcess) -> None:
        """A new report is there."""
        ...

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        """The process ended: `killed`, `error`, `ended` or `fenced` when it is started again, `stopped` with the
        instance, `retired` when it was one too many."""
        ...

    def tick(self) -> None:
        """The supervisor's loop goes round."""
        ...
