"""One worker as a process: started with its handover, told commands through its standard input, heard over a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.report import Command, Handover, Report, decode, encode_command, encode_handover


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker as the supervisor sees it: its place in the instance, which outlives its processes.

    Attributes:
        report: the latest; `heard` is when it came (monotonic).
        last_error: what ended it the last time; `start_at` is when it is due again.
        added: it was started because of the load (see scaling.py), not with the instance.
        retiring: it makes its last commit and is not started again.
    """

    identity: Identity
    added: bool = False
    retiring: bool = False
    process: subprocess.Popen[bytes] | None = None
    report: Report = field(default_factory=Report)
    started: float = 0.0
    heard: float = 0.0
    restarts: int = 0
    last_error: str | None = None
    pause: float = 0.0
    start_at: float | None = None
    fenced: float = float("-inf")
    pipe: int | None = None
    _buffer: bytes = b""

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
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def spawn(self, handover: Handover, writing: int, reading: int) -> bool:
        """Starts a process. False when it ended before it could be told what to do.

        Args:
            writing, reading: the ends of the pipe that it reports over; both are this object's from now on.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kstream.runtime.process.child"],
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
            process_group=0,  # Ctrl-C in a terminal reaches only us; we tell the workers
        )
        os.close(writing)
        os.set_blocking(reading, False)
        self.pipe = reading
        self.start_at, self.started = None, time.monotonic()
        self.heard, self.report, self._buffer = self.started, Report(), b""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(encode_handover(handover) + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def read(self) -> Iterable[Report] | None:
        """The reports that wait in the pipe; None when it has ended."""
        assert self.pipe is not None
        try:
            data = os.read(self.pipe, 1 << 16)
        except BlockingIOError:  # the worker is dead, a process that it started still has the pipe
            data = b""
        if not data:
            os.close(self.pipe)
            self.pipe = None
            return None
        self.heard = time.monotonic()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return map(decode, lines)

    def tell(self, command: Command) -> bool:
        """False when it has just ended: its successor is told at its start. May be called from any thread."""
        process = self.process
        if process is None or process.stdin is None:
            return True
        try:
            os.write(process.stdin.fileno(), encode_command(command) + b"\n")
        except (OSError, ValueError):
            return False
        return True

    def signal(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)


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
