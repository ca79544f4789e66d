"""An instance: starts its workers, restarts those that die, has more or fewer of them, stops them together.

One dead worker does not disturb the others: its partitions stay its own (static membership) until its session ends,
and it is back sooner. One that is gone for good is taken out of its consumer group (leaving.py).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import KStreamError, RestartsExhausted, UsageError
from kstream.observe.throttle import Throttle
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.instance.answering import Answering, Ask, of_kafka
from kstream.runtime.instance.caller import signals_to
from kstream.runtime.instance.leaving import Leaving, Remove, from_kafka
from kstream.runtime.process.handle import Processes, Watcher, WorkerProcess, held_by, pauses_from
from kstream.runtime.process.launching import LocalProcesses
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import Command, Handover
from kstream.runtime.process.states import ProcessState
from kstream.specs.restart import strategy_of
from kstream.topology import DEFAULT_GROUP
from kstream.types import Clock

log = logging.getLogger(__name__)
watching = logging.getLogger(f"{__name__}.watching")  # its lines may come five times a second
watching.addFilter(Throttle())

REPORTS_SECONDS = 5.0
"""A worker that reports does so twice a second. One that does not has max_poll_interval."""

FENCED_AGAIN = 120.0
"""Seconds within which a worker that is fenced a second time has another one with its name."""


class Supervisor:
    """Runs workers of an app until told to stop.

    `start`, `poll` again and again, `stop`, `wait`; or `run` for all of it with signals. `add` and `retire` change how
    many there are; what decides on that is `scaler` (scaling.py). `stop` and `tell` may be called from any thread and
    from signal handlers: the loop carries them out. Everything else belongs to one thread.

    Args:
        program: what the workers load.
        partitions: the partition count of every topic (from `prepare_topics`).
        count: how many workers each of the isolation groups `groups` has at the start.
        processes, remove, ask: what makes processes, what takes members out of groups, and whether Kafka answers
            (default: the real ones).
    """

    def __init__(
        self,
        program: Program,
        app: str,
        instance: str,
        settings: Settings,
        partitions: dict[str, int],
        count: int,
        groups: Sequence[str] = (DEFAULT_GROUP,),
        *,
        processes: Processes | None = None,
        remove: Remove | None = None,
        ask: Ask | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._program, self._app, self._instance = program, app, instance
        self._settings, self.partitions, self.groups = settings, partitions, tuple(groups)
        self.workers = [self._place(group, index) for group in groups for index in range(count)]
        self._processes: Processes = LocalProcesses(settings.state_queries) if processes is None else processes
        self._leaving = Leaving(from_kafka(settings) if remove is None else remove)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._answering = Answering(of_kafka(settings) if ask is None else ask, self._clock.monotonic)
        self._strategy = strategy_of(settings)
        self.failure: KStreamError | None = None
        self.watchers: list[Watcher] = []  # each is told, whatever becomes of the others
        self.scaler: Callable[[Supervisor], None] = _as_it_is
        self._asked: signal.Signals | None = None  # how the workers are to end
        self._told: signal.Signals | None = None  # what they were sent of that
        self._left: list[Identity] = []  # those that a clean stop has ended, and that leave their groups
        self._leaves = settings.leaves_on_stop  # whether they leave their groups then
        self.command = Command()  # what was told to all workers, for those that start later
        self._commands: deque[Command] = deque()  # what they are still to be told

    def start(self) -> None:
        for worker in self.workers:
            if not self.stopping:
                self._spawn(worker)

    def poll(self, timeout: float) -> None:
        """Reads reports for up to `timeout` seconds; restarts what died and is due."""
        self._heed()
        for watcher in self.watchers:
            self._notice(watcher.tick)
        speaking = self._processes.wait(timeout)
        for worker in self.workers:
            if worker.process in speaking:
                self._read(worker)
        now = self._clock.monotonic()
        for worker in self.workers:
            if worker.process is not None:
                self._look(worker, now)
            elif worker.start_at is not None and now >= worker.start_at and not self.stopping:
                self._spawn(worker)
        if not self.stopping:
            self._notice(self.scaler, self)

    def _notice(self, tell: Callable[..., None], *what: object) -> None:
        """What only observes never ends the instance."""
        try:
            tell(*what)
        except Exception as error:
            who = getattr(tell, "__qualname__", type(tell).__name__)
            watching.error("%s failed: %s: %s", who, type(error).__name__, error, exc_info=error)

    def _notice_end(self, worker: WorkerProcess, reason: str) -> None:
        for watcher in self.watchers:
            self._notice(watcher.ended, worker, reason)

    def _heed(self) -> None:
        """Carries out what was asked meanwhile."""
        while self._commands:
            command = self._commands.popleft()
            for worker in self.workers:
                if worker.process is not None:
                    worker.process.tell(command)
        if self._asked is None or self._asked is self._told:
            return
        self._told = self._asked
        for worker in self.workers:
            if worker.process is None:
                if worker.state is not ProcessState.STOPPED:
                    worker.go(ProcessState.STOPPED)
                continue
            if worker.state is not ProcessState.STOPPING:
                worker.go(ProcessState.STOPPING)
            if self._asked is signal.SIGTERM:
                worker.stop()
            else:
                worker.process.signal(self._asked)

    def _look(self, worker: WorkerProcess, now: float) -> None:
        assert worker.process is not None
        status = worker.process.ended()
        if status is not None:
            self._died(worker, status, now)
        elif now - worker.heard > self._settings.max_poll_interval:
            self._kill(worker, f"has not reported for {now - worker.heard:.0f} s ({held_by(worker)})", now)
        elif now - worker.heard > self._settings.max_poll_interval / 2 and worker.warned < worker.heard:
            worker.warned = now
            log.warning(
                "worker %s has not reported for %.0f s, half of max_poll_interval (%s): after %.0f s it is killed and "
                "started again, and what it has not committed is processed again",
                worker.name, now - worker.heard, held_by(worker), self._settings.max_poll_interval,
            )  # fmt: skip
        else:
            self._look_at_work(worker, now)

    def _look_at_work(self, worker: WorkerProcess, now: float) -> None:
        """One that reports and does not do its work is killed, unless it is Kafka that does not answer."""
        settings = self._settings
        if settings.stall_restart is None or worker.state not in (ProcessState.STARTING, ProcessState.RUNNING):
            return
        longest = settings.stall_restart + max(settings.commit_interval, settings.max_task_idle)
        # a member that stands holds up all of its group for max_poll_interval: the others are not to be killed for it
        of_group = max(longest, settings.max_poll_interval)
        reports = now - worker.heard < REPORTS_SECONDS and not worker.stands
        told = worker.liveness.troubles(now) if reports else ()
        late = next((one for one in told if one.seconds > (of_group if one.of_group else longest)), None)
        answers = None if late is None else self._answering.look()
        if late is None:
            worker.spared = False
        elif answers:
            self._kill(worker, f"{late.text} ({late.seconds:.0f} s)", now)
        elif answers is False and not worker.spared:
            worker.spared = True
            log.warning(
                "worker %s %s (%.0f s), but Kafka does not answer: it is left alone",
                worker.name, late.text, late.seconds,
            )  # fmt: skip

    def _kill(self, worker: WorkerProcess, why: str, now: float) -> None:
        assert worker.process is not None
        log.error("worker %s %s: killing it", worker.name, why)
        worker.killed_for = f"killed: {why}"
        worker.process.signal(signal.SIGKILL)
        worker.heard = now  # it takes a moment to end
        worker.liveness.begin(now)

    # ---- how many there are

    def of_group(self, group: str) -> list[WorkerProcess]:
        """The workers of an isolation group that are to stay."""
        return [one for one in self.workers if one.group == group and one.state is not ProcessState.RETIRING]

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
        if worker.process is None:  # it was about to be started again
            worker.go(ProcessState.STOPPED)
            self._gone(worker)
        else:
            worker.go(ProcessState.RETIRING)
            worker.stop()
        return worker

    @property
    def leaving(self) -> set[str]:
        """The names of workers that are being taken out of their group: nobody may join under them."""
        return self._leaving.names

    def _gone(self, worker: WorkerProcess) -> None:
        self.workers = [other for other in self.workers if other is not worker]
        self._notice_end(worker, "retired")
        self._leaving.take_out([worker.identity])

    # ---- what all of them are told

    def tell(self, command: Command) -> None:
        """Tells all workers, those that start later too."""
        levels = {**self.command.log_levels, **command.log_levels}
        self.command = Command(self.command.paused if command.paused is None else command.paused, log_levels=levels)
        self._commands.append(command)

    @property
    def stopping(self) -> bool:
        return self._asked is not None

    @property
    def running(self) -> bool:
        return any(worker.runs or worker.state is ProcessState.RESTARTING for worker in self.workers)

    def stop(self, how: signal.Signals = signal.SIGTERM, *, for_good: bool = False) -> None:
        """Asks all workers to drain, commit and leave (SIGTERM), or ends them at once (SIGKILL): at the next `poll`.
        `for_good`: they leave their groups, whatever `on_stop` says."""
        self._leaves = self._leaves or for_good
        if self._asked is not signal.SIGKILL:
            self._asked = how

    def wait(self) -> None:
        """Waits for the workers to end; kills those that take longer than `shutdown_timeout`. Those that ended well
        leave their groups, when the instance is not to come back under its name."""
        deadline = self._clock.monotonic() + self._settings.shutdown_timeout
        while self.running:
            self.poll(0.05)
            if self._clock.monotonic() > deadline:
                log.error("workers did not stop within %.0f s: killing them", self._settings.shutdown_timeout)
                self.stop(signal.SIGKILL)
                deadline = float("inf")
        left, self._left = self._left, []
        self._leaving.take_out(left)
        self._leaving.wait()

    def kill(self) -> None:
        """Ends what still runs, at once."""
        self.stop(signal.SIGKILL)
        self.wait()

    def run(self, every: Callable[[Supervisor], None] | None = None) -> int:
        """Runs until SIGTERM or SIGINT (a second one kills). Returns the exit status.

        Raises:
            UsageError: what a worker ended with, where starting it again would not help.
            RestartsExhausted: a worker or a task failed more often than its restart strategy allows.
        """
        signals = 0

        def asked() -> None:
            nonlocal signals
            signals += 1
            self.stop(signal.SIGTERM if signals == 1 else signal.SIGKILL)

        with signals_to(asked):
            try:
                self.start()
                while self.running and not self.stopping:
                    self.poll(0.2)
                    if every is not None:
                        every(self)
                if signals:
                    log.info("stopping: workers drain, commit and leave; a second signal ends them at once")
                self.wait()
                if signals:
                    log.info("stopped")
            finally:
                self.kill()
        if self.failure is not None:
            raise self.failure
        return 0

    # ---- processes

    def _spawn(self, worker: WorkerProcess) -> None:
        handover = Handover(
            program=self._program,
            path=[os.getcwd(), *(entry for entry in sys.path if entry)],
            settings=msgspec.Raw(self._settings.to_json()),
            app=self._app,
            instance=self._instance,
            group=worker.group,
            index=worker.index,
            partitions=self.partitions,
            command=self.command,
        )
        worker.begin(self._processes.start(handover), self._clock.monotonic())

    def _read(self, worker: WorkerProcess) -> None:
        assert worker.process is not None
        for report in worker.process.read():
            worker.hear(report, self._clock.monotonic())
            if report.held is None:
                for watcher in self.watchers:
                    self._notice(watcher.heard, worker)

    def _died(self, worker: WorkerProcess, status: int, now: float) -> None:
        self._read(worker)  # what it still said
        if worker.state is ProcessState.STOPPING:
            worker.end(status, ProcessState.STOPPED)
            self._notice_end(worker, "stopped")
            if status == 0 and self._leaves:
                self._left.append(worker.identity)
        elif worker.state is ProcessState.RETIRING:
            worker.end(status, ProcessState.STOPPED)
            self._gone(worker)
        elif worker.report.usage and worker.report.stopped_by and not self._fenced_first(worker, now):
            self._give_up(worker, status, UsageError(worker.refusal))
        elif worker.report.exhausted:  # one of its tasks
            self._give_up(worker, status, RestartsExhausted(worker.report.stopped_by))
        else:
            self._restart(worker, status, now)

    def _restart(self, worker: WorkerProcess, status: int, now: float) -> None:
        """After a pause, where its restart strategy has one."""
        worker.pauses.failed(now)
        if worker.pauses.exhausted:
            why = "" if (said := worker.report.stopped_by or worker.killed_for) is None else f": {said}"
            ended = f"worker {worker.name} {_ending(status)}{why}; it is not started again"
            self._give_up(worker, status, RestartsExhausted(f"{ended} ({self._strategy.words()})"))
            return
        worker.end(status, ProcessState.RESTARTING)
        worker.restarts += 1
        worker.last_error = worker.report.stopped_by or worker.killed_for or _ending(status)
        why = "" if (said := worker.report.stopped_by) is None else f" ({said})"
        log.error("worker %s %s%s: starting it again in %.1f s", worker.name, _ending(status), why, worker.pauses.pause)
        self._notice_end(worker, "fenced" if worker.report.fenced else _kind_of_ending(status))

    def _give_up(self, worker: WorkerProcess, status: int, failure: KStreamError) -> None:
        """The instance stops with this."""
        worker.end(status, ProcessState.STOPPED)
        self.failure = failure
        self.stop()

    def _fenced_first(self, worker: WorkerProcess, now: float) -> bool:
        """Whether a fencing may be of our own making. A static member that lost its brokers and joins again can be
        fenced by a heartbeat of its own that was still under way (librdkafka; seen when a broker was killed and came
        back). Started again it fences whoever has its name; fenced once more, there is somebody."""
        if not worker.report.fenced:
            return False
        first, worker.fenced = now - worker.fenced > FENCED_AGAIN, now
        if first:
            log.error(
                "worker %s was fenced, by an earlier connection of its own or by another process with its name: it is "
                "started once more, and stops if it is fenced again: %s",
                worker.name, worker.report.stopped_by,
            )  # fmt: skip
        return first

    def _place(self, group: str, index: int) -> WorkerProcess:
        return WorkerProcess(Identity(self._app, self._instance, index, group), pauses_from(self._settings))


def _as_it_is(_: Supervisor) -> None:
    return


def _kind_of_ending(status: int) -> str:
    return "killed" if status < 0 else "error" if status else "ended"


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
