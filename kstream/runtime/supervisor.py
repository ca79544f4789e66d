"""An instance: starts its workers, restarts those that die, stops them together.

One dead worker does not disturb the others: its partitions stay its own (static membership) until its session ends,
and it is back sooner.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from kstream.config import Settings
from kstream.errors import UsageError
from kstream.runtime.report import Command, Handover, Report, decode, encode_command, encode_handover

log = logging.getLogger(__name__)

FENCED_AGAIN = 120.0
"""Seconds within which a worker that is fenced a second time has another one with its name."""


class Watcher(Protocol):
    """Who wants to know what happens to the workers (runtime/observer.py). Called on the supervisor's thread."""

    def heard(self, worker: WorkerProcess) -> None:
        """A new report is there."""
        ...

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        """The process ended; `reason` is one of a few words."""
        ...

    def tick(self) -> None:
        """The supervisor's loop goes round."""
        ...


class _NobodyWatches:
    def heard(self, worker: WorkerProcess) -> None: ...
    def ended(self, worker: WorkerProcess, reason: str) -> None: ...
    def tick(self) -> None: ...


@dataclass(slots=True)
class WorkerProcess:
    """One worker as the supervisor sees it. `report` is its latest, `last_error` what ended it the last time."""

    index: int
    process: subprocess.Popen[bytes] | None = None
    report: Report = field(default_factory=Report)
    started: float = 0.0
    heard: float = 0.0
    restarts: int = 0
    last_error: str | None = None
    pause: float = 0.0
    start_at: float | None = None
    fenced: float = float("-inf")
    _buffer: bytes = b""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None


class Supervisor:
    """Runs `count` workers of an app until told to stop.

    `start`, `poll` again and again, `stop`, `wait`; or `run` for all of it with signals.

    Args:
        target: `module:attribute` of the app, as the workers load it.
        partitions: the partition count of every topic (from `prepare_topics`).
    """

    def __init__(
        self, target: str, app: str, instance: str, settings: Settings, partitions: dict[str, int], count: int
    ) -> None:
        self.workers = [WorkerProcess(index) for index in range(count)]
        self._target, self._app, self._instance = target, app, instance
        self._settings, self.partitions = settings, partitions
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self.failure: str | None = None
        self.watcher: Watcher = _NobodyWatches()
        self.command = Command()  # what was told to all workers, for those that start later

    def start(self) -> None:
        for worker in self.workers:
            if not self._stopping:
                self._spawn(worker)

    def poll(self, timeout: float) -> None:
        """Reads reports for up to `timeout` seconds; restarts what died and is due."""
        self.watcher.tick()
        for key, _ in self._selector.select(timeout):
            self._read(key.data, key.fd)
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._died(worker, now)
            elif worker.start_at is not None and now >= worker.start_at and not self._stopping:
                self._spawn(worker)
            elif worker.pid and now - worker.heard > self._settings.max_poll_interval:
                log.error("worker %d has been silent for %.0f s: killing it", worker.index, now - worker.heard)
                os.kill(worker.pid, signal.SIGKILL)

    def tell(self, command: Command) -> None:
        """Tells all workers, those that start later too. May be called from any thread."""
        levels = {**self.command.log_levels, **command.log_levels}
        self.command = Command(self.command.paused if command.paused is None else command.paused, levels)
        line = encode_command(command) + b"\n"
        for worker in self.workers:
            process = worker.process
            if process is not None and process.stdin is not None:
                try:
                    os.write(process.stdin.fileno(), line)
                except (OSError, ValueError):  # it has just ended: its successor is told at its start
                    log.debug("worker %d was not told: it has ended", worker.index)

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def running(self) -> bool:
        return any(worker.process is not None or worker.start_at is not None for worker in self.workers)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Asks all workers to drain, commit and leave (SIGTERM), or ends them at once (SIGKILL)."""
        self._stopping = True
        for worker in self.workers:
            worker.start_at = None
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(how)

    def wait(self) -> None:
        """Waits for the workers to leave; kills those that take longer than `shutdown_timeout`."""
        deadline = time.monotonic() + self._settings.shutdown_timeout
        while self.running:
            self.poll(0.05)
            if time.monotonic() > deadline:
                log.error("workers did not stop within %.0f s: killing them", self._settings.shutdown_timeout)
                self.stop(signal.SIGKILL)
                deadline = float("inf")

    def kill(self) -> None:
        """Ends what still runs, at once."""
        self.stop(signal.SIGKILL)
        self.wait()

    def run(self, every: Callable[[Supervisor], None] | None = None) -> int:
        """Runs until SIGTERM or SIGINT (a second one kills). Returns the exit status.

        Raises:
            UsageError: what a worker ended with, where starting it again would not help.
        """
        signals = 0

        def asked(*_: object) -> None:
            nonlocal signals
            signals += 1
            self.stop(signal.SIGTERM if signals == 1 else signal.SIGKILL)

        before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            while self.running and not self._stopping:
                self.poll(0.2)
                if every is not None:
                    every(self)
            if signals:
                log.info("stopping: workers drain, commit and leave; a second signal ends them at once")
            self.wait()
        finally:
            self.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.failure:
            raise UsageError(self.failure)
        return 0

    # ---- processes

    def _spawn(self, worker: WorkerProcess) -> None:
        reading, writing = os.pipe()
        handover = Handover(
            target=self._target,
            path=[os.getcwd(), *(entry for entry in sys.path if entry)],
            settings=msgspec.Raw(self._settings.to_json()),
            app=self._app,
            instance=self._instance,
            index=worker.index,
            partitions=self.partitions,
            report_fd=writing,
            command=self.command,
        )
        worker.process = subprocess.Popen(
            [sys.executable, "-m", "kstream.runtime.child"],
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
            process_group=0,  # Ctrl-C in a terminal reaches only us; we tell the workers
        )
        os.close(writing)
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        worker.start_at, worker.started = None, time.monotonic()
        worker.heard, worker.report, worker._buffer = worker.started, Report(), b""
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(encode_handover(handover) + b"\n")
            worker.process.stdin.flush()
        except BrokenPipeError:
            log.error("worker %d ended before it was told what to do", worker.index)
        if self._stopping:  # the signal came while it was started
            worker.process.send_signal(signal.SIGTERM)

    def _read(self, worker: WorkerProcess, descriptor: int) -> None:
        data = os.read(descriptor, 1 << 16)
        if not data:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            return
        worker.heard = time.monotonic()
        *lines, worker._buffer = (worker._buffer + data).split(b"\n")
        for line in lines:
            worker.report = decode(line)
            self.watcher.heard(worker)

    def _died(self, worker: WorkerProcess, now: float) -> None:
        assert worker.process is not None
        self._drain(worker)
        status, lived = worker.process.returncode, now - worker.started
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        worker.process = None
        reason = "fenced" if worker.report.fenced else _kind_of_ending(status)
        if self._stopping:
            self.watcher.ended(worker, "stopped")
            return
        if worker.report.usage and worker.report.stopped_by and not self._fenced_first(worker, now):
            self.failure = worker.report.stopped_by
            self.stop()
            return
        settings = self._settings
        if lived > settings.restart_reset_after:
            worker.pause = 0.0
        grown = max(settings.restart_initial, worker.pause * settings.restart_multiplier)
        worker.pause = min(settings.restart_max, grown)
        worker.start_at = now + worker.pause
        worker.restarts += 1
        worker.last_error = worker.report.stopped_by or _ending(status)
        log.error("worker %d %s: starting it again in %.1f s", worker.index, _ending(status), worker.pause)
        self.watcher.ended(worker, reason)

    def _fenced_first(self, worker: WorkerProcess, now: float) -> bool:
        """Whether a fencing may be of our own making. A static member that lost its brokers and joins again can be
        fenced by a heartbeat of its own that was still under way (librdkafka; seen when a broker was killed and came
        back). Started again it fences whoever has its name; fenced once more, there is somebody."""
        if not worker.report.fenced:
            return False
        first, worker.fenced = now - worker.fenced > FENCED_AGAIN, now
        if first:
            log.error("%s; worker %d tries once to take over", worker.report.stopped_by, worker.index)
        return first

    def _drain(self, worker: WorkerProcess) -> None:
        """Reads what a dead worker still said."""
        for key in list(self._selector.get_map().values()):
            while key.data is worker and key.fd in {other.fd for other in self._selector.get_map().values()}:
                self._read(worker, key.fd)


def _kind_of_ending(status: int) -> str:
    return "killed" if status < 0 else "error" if status else "ended"


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
