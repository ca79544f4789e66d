"""An instance: starts its workers, restarts those that die, has more or fewer of them, stops them together.

One dead worker does not disturb the others: its partitions stay its own (static membership) until its session ends,
and it is back sooner. One that is gone for good is taken out of its consumer group, so that others have its partitions
at once.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from kstream.config import Settings
from kstream.errors import LeavingFailed, UsageError
from kstream.runtime.cluster.naming import Identity, consumer_group
from kstream.runtime.kafka.members import preload, remove_members
from kstream.runtime.process.handle import Watcher, WorkerProcess
from kstream.runtime.process.report import Command, Handover
from kstream.topology import DEFAULT_GROUP

log = logging.getLogger(__name__)

FENCED_AGAIN = 120.0
"""Seconds within which a worker that is fenced a second time has another one with its name."""

LEAVE_SECONDS = 5.0
"""Longest time that taking workers out of their group may take; they are out at the end of their session anyway."""


class _NobodyWatches:
    def heard(self, worker: WorkerProcess) -> None: ...
    def ended(self, worker: WorkerProcess, reason: str) -> None: ...
    def tick(self) -> None: ...


class Supervisor:
    """Runs workers of an app until told to stop.

    `start`, `poll` again and again, `stop`, `wait`; or `run` for all of it with signals. `add` and `retire` change how
    many there are; what decides on that is `scaler` (scaling.py).

    Args:
        target: `module:attribute` of the app, as the workers load it.
        partitions: the partition count of every topic (from `prepare_topics`).
        count: how many workers each of the isolation groups `groups` has at the start.
    """

    def __init__(
        self,
        target: str,
        app: str,
        instance: str,
        settings: Settings,
        partitions: dict[str, int],
        count: int,
        groups: Sequence[str] = (DEFAULT_GROUP,),
    ) -> None:
        self._target, self._app, self._instance = target, app, instance
        self.groups = tuple(groups)
        self.workers = [self._place(group, index) for group in groups for index in range(count)]
        self._settings, self.partitions = settings, partitions
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self.failure: str | None = None
        self.watcher: Watcher = _NobodyWatches()
        self.scaler: Callable[[Supervisor], None] = _as_it_is
        self._stopped: list[WorkerProcess] = []  # those that a clean stop has ended
        self._leaving: list[tuple[threading.Thread, frozenset[str]]] = []
        self.command = Command()  # what was told to all workers, for those that start later

    def start(self) -> None:
        for worker in self.workers:
            if not self._stopping:
                self._spawn(worker)
        if self._settings.leaves_on_stop or self._settings.worker_range:
            preload()

    def poll(self, timeout: float) -> None:
        """Reads reports for up to `timeout` seconds; restarts what died and is due."""
        self.watcher.tick()
        for key, _ in self._selector.select(timeout):
            self._read(key.data)
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._died(worker, now)
            elif worker.start_at is not None and now >= worker.start_at and not self._stopping:
                self._spawn(worker)
            elif worker.pid and now - worker.heard > self._settings.max_poll_interval:
                log.error("worker %s has been silent for %.0f s: killing it", worker.name, now - worker.heard)
                os.kill(worker.pid, signal.SIGKILL)
                worker.heard = now  # it takes a moment to end
        if not self._stopping:
            self.scaler(self)

    # ---- how many there are

    def of_group(self, group: str) -> list[WorkerProcess]:
        """The workers of an isolation group that are to stay."""
        return [worker for worker in self.workers if worker.group == group and not worker.retiring]

    def add(self, group: str) -> WorkerProcess:
        """One worker more, with the lowest number that is free: its local state may still be there."""
        taken = {worker.name for worker in self.workers} | self.leaving
        index = next(index for index in range(len(taken) + 1) if self._place(group, index).name not in taken)
        worker = self._place(group, index)
        worker.added = True
        self.workers = [*self.workers, worker]
        self._spawn(worker)
        return worker

    def retire(self, group: str) -> WorkerProcess:
        """One worker fewer, that with the highest number: it makes its last commit and leaves its consumer group."""
        worker = max(self.of_group(group), key=lambda one: one.index)
        worker.retiring = True
        worker.signal(signal.SIGTERM)
        if worker.process is None:  # it was about to be started again
            self._gone(worker)
        return worker

    @property
    def leaving(self) -> set[str]:
        """The names of workers that are being taken out of their group: nobody may join under them."""
        self._leaving = [(thread, names) for thread, names in self._leaving if thread.is_alive()]
        return {name for _, names in self._leaving for name in names}

    def _gone(self, worker: WorkerProcess) -> None:
        self.workers = [other for other in self.workers if other is not worker]
        self.watcher.ended(worker, "retired")
        self._leave([worker])

    def _leave(self, workers: Sequence[WorkerProcess]) -> None:
        """Has workers that ended taken out of their groups, by a thread: nobody waits for the brokers here."""
        for group in dict.fromkeys(worker.group for worker in workers):
            gone = [worker for worker in workers if worker.group == group]
            thread = threading.Thread(
                target=self._remove, args=(group, [one.identity.member for one in gone]), name="leaving", daemon=True
            )
            thread.start()
            self._leaving.append((thread, frozenset(one.name for one in gone)))

    def _remove(self, group: str, members: Sequence[str]) -> None:
        settings = self._settings
        try:
            remove_members(
                settings.bootstrap_servers, settings.kafka, consumer_group(self._app, group), members, LEAVE_SECONDS
            )
        except LeavingFailed as error:
            log.warning("%s", error)

    def tell(self, command: Command) -> None:
        """Tells all workers, those that start later too. May be called from any thread."""
        levels = {**self.command.log_levels, **command.log_levels}
        self.command = Command(self.command.paused if command.paused is None else command.paused, levels)
        for worker in self.workers:
            if not worker.tell(command):
                log.debug("worker %s was not told: it has ended", worker.name)

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
            worker.signal(how)

    def wait(self) -> None:
        """Waits for the workers to end; kills those that take longer than `shutdown_timeout`. Those that ended well
        leave their groups, when the instance is not to come back under its name."""
        deadline = time.monotonic() + self._settings.shutdown_timeout
        while self.running:
            self.poll(0.05)
            if time.monotonic() > deadline:
                log.error("workers did not stop within %.0f s: killing them", self._settings.shutdown_timeout)
                self.stop(signal.SIGKILL)
                deadline = float("inf")
        stopped, self._stopped = self._stopped, []
        if self._settings.leaves_on_stop:
            self._leave(stopped)
        for thread, _ in self._leaving:
            thread.join(LEAVE_SECONDS + 1)

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
        worker.added = worker.added and not worker.restarts
        reading, writing = os.pipe()
        handover = Handover(
            target=self._target,
            path=[os.getcwd(), *(entry for entry in sys.path if entry)],
            settings=msgspec.Raw(self._settings.to_json()),
            app=self._app,
            instance=self._instance,
            group=worker.group,
            index=worker.index,
            partitions=self.partitions,
            report_fd=writing,
            command=self.command,
        )
        if not worker.spawn(handover, writing, reading):
            log.error("worker %s ended before it was told what to do", worker.name)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        if self._stopping:  # the signal came while it was started
            worker.signal(signal.SIGTERM)

    def _read(self, worker: WorkerProcess) -> None:
        pipe = worker.pipe
        reports = worker.read()
        if reports is None:
            assert pipe is not None
            self._selector.unregister(pipe)
            return
        for worker.report in reports:
            self.watcher.heard(worker)

    def _died(self, worker: WorkerProcess, now: float) -> None:
        assert worker.process is not None
        while worker.pipe is not None:  # what it still said
            self._read(worker)
        status, lived = worker.process.returncode, now - worker.started
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        worker.process = None
        reason = "fenced" if worker.report.fenced else _kind_of_ending(status)
        if self._stopping:
            self.watcher.ended(worker, "stopped")
            if status == 0:
                self._stopped.append(worker)
            return
        if worker.retiring:
            self._gone(worker)
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
        log.error("worker %s %s: starting it again in %.1f s", worker.name, _ending(status), worker.pause)
        self.watcher.ended(worker, reason)

    def _fenced_first(self, worker: WorkerProcess, now: float) -> bool:
        """Whether a fencing may be of our own making. A static member that lost its brokers and joins again can be
        fenced by a heartbeat of its own that was still under way (librdkafka; seen when a broker was killed and came
        back). Started again it fences whoever has its name; fenced once more, there is somebody."""
        if not worker.report.fenced:
            return False
        first, worker.fenced = now - worker.fenced > FENCED_AGAIN, now
        if first:
            log.error("%s; worker %s tries once to take over", worker.report.stopped_by, worker.name)
        return first

    def _place(self, group: str, index: int) -> WorkerProcess:
        return WorkerProcess(Identity(self._app, self._instance, index, group))


def _as_it_is(_: Supervisor) -> None:
    return


def _kind_of_ending(status: int) -> str:
    return "killed" if status < 0 else "error" if status else "ended"


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
