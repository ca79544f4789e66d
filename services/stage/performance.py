"""One run of a demo: feed, watch, draw, kill, wait until all is through, stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live

from kstream.errors import KStreamError
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.process.handle import WorkerProcess
from services.stage.drawing import Event, View, WorkerView, event_line, line

STALLED = 60.0  # seconds without a commit after which the demo gives up
RESTARTS = 5  # deaths of a worker after which the demo gives up
SETTLE = 10.0  # seconds that a killed worker may take to be back when everything is through
REFRESH, LINE_EVERY, SPEED_OVER = 0.1, 2.0, 3.0  # seconds


class Feeding(threading.Thread):
    """A thread that prepares its records and, when told to `go`, writes them.

    Attributes:
        total: how many there are; None until that is known.
        sent: how many were handed over so far.
        failure: why it ended early.
    """

    def __init__(self) -> None:
        super().__init__(name="feed", daemon=True)
        self.total: int | None = None
        self.sent = 0
        self.failure: Exception | None = None
        self._go, self._halt = threading.Event(), threading.Event()

    def prepare(self) -> int:
        """Says how many records there are."""
        raise NotImplementedError

    def write(self, sent: Callable[[int], None], stop: threading.Event) -> None:
        """Writes them, until all are written or it is to stop."""
        raise NotImplementedError

    def go(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._halt.set()
        self._go.set()
        if self.total is not None:  # while it prepares it cannot be stopped, and need not be
            self.join(10)

    def run(self) -> None:
        try:
            self.total = self.prepare()
            self._go.wait()
            self.write(self._count, self._halt)
        except Exception as error:
            self.failure = error

    def _count(self, sent: int) -> None:
        self.sent = sent


class Watching(Protocol):
    """What follows the output.

    Attributes:
        through: records of the input whose results are committed.
        failure: why it ended early.
    """

    through: int
    failure: BaseException | None

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Performance:
    """One run: feeds, watches, draws, kills, waits until all is through, stops the service cleanly.

    `tasks`: how many the service has; the feed begins when all of them run. `show` brings what is shown beside the
    workers up to date. `done` says whether nothing more will come once all is through.
    """

    def __init__(
        self, supervisor: Supervisor, tasks: int, feed: Feeding, watch: Watching, kill: bool, view: View,
        display: Display, *, show: Callable[[], None], half_way: Callable[[], bool],
        done: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.supervisor, self.view = supervisor, view
        self._tasks = tasks
        self._feed, self._watch = feed, watch
        self._display, self._show, self._half_way, self._done = display, show, half_way, done
        self._began: float | None = None
        self._ended: float | None = None
        self._kill_due = kill
        self._killed: tuple[WorkerProcess, int, float] | None = None  # who, as which pid, when
        self._before: dict[int, int] = {}  # records of a worker's earlier lives
        self._seen: dict[int, tuple[int, int]] = {}  # restarts and records of a worker when last looked at
        self._speeds: deque[tuple[float, int]] = deque()

    def play(self) -> View:
        """Raises KStreamError when the service or the feed fails, or nothing moves any more."""
        with self._display:
            try:
                self.supervisor.start()
                self._feed.start()
                self._watch.start()
                self._until_ready()
                self._began = time.monotonic()
                self._feed.go()
                self._until_through()
                self._say(f"all {self.view.what} are through: stopping", "bold")
                self.supervisor.stop()
                self.supervisor.wait()
                self._say("the workers have stopped")
            finally:
                self._feed.stop()
                self._watch.stop()
                self._look()
        return self.view

    def _until_ready(self) -> None:
        deadline = time.monotonic() + STALLED
        while self._feed.total is None or self._running_tasks() < self._tasks:
            self._turn()
            if time.monotonic() > deadline:
                raise KStreamError(f"the workers were not ready within {STALLED:.0f} s")
        self.view.total = self._feed.total
        tasks = ", ".join(f"{len(worker.report.tasks)}" for worker in self.supervisor.workers)
        self._say(f"the workers are ready, with {tasks} tasks")

    def _until_through(self) -> None:
        moved_at, through = time.monotonic(), 0
        while self._watch.through < self.view.total or not self._done():
            self._turn()
            now = time.monotonic()
            if self._watch.through > through or self._feed.sent == through < self.view.total:
                moved_at, through = now, self._watch.through
            if now - moved_at > STALLED:
                raise KStreamError(
                    f"nothing was committed for {STALLED:.0f} s, with {through:,} {self.view.what} through"
                )
            if self._kill_due and self._half_way():
                self._kill()
            self._see_recovery()
        self._ended = time.monotonic()
        while self._killed is not None and time.monotonic() < self._ended + SETTLE:
            self._turn()
            self._see_recovery()

    def _turn(self) -> None:
        """Listens to the workers, looks, draws."""
        self.supervisor.poll(REFRESH)
        self._look()
        self._display.update()
        if self.supervisor.failure is not None:
            raise KStreamError(f"the service stopped: {self.supervisor.failure}")
        for worker in self.supervisor.workers:
            if worker.restarts > RESTARTS:
                raise KStreamError(
                    f"worker {worker.name} died {worker.restarts} times, the last time: {worker.last_error}"
                )
        if self._feed.failure is not None:
            raise KStreamError(f"the feed failed: {self._feed.failure}")
        if self._watch.failure is not None:
            raise KStreamError(f"the output cannot be read: {self._watch.failure}")

    def _look(self) -> None:
        """Brings the view up to date."""
        view, now = self.view, time.monotonic()
        view.sent, view.through = self._feed.sent, self._watch.through
        self._show()
        view.seconds = 0.0 if self._began is None else (self._ended or now) - self._began
        self._speeds.append((now, view.through))
        while now - self._speeds[0][0] > SPEED_OVER:
            self._speeds.popleft()
        passed = now - self._speeds[0][0]
        view.speed = (view.through - self._speeds[0][1]) / passed if passed else 0.0
        view.workers = [self._worker_view(worker) for worker in self.supervisor.workers]

    def _worker_view(self, worker: WorkerProcess) -> WorkerView:
        index, report = worker.index, worker.report
        restarts, records = self._seen.get(index, (0, 0))
        if worker.pid is not None and worker.restarts != restarts:  # a new life: it counts from 0
            self._before[index] = self._before.get(index, 0) + records
        if worker.pid is not None:
            self._seen[index] = (worker.restarts, report.records)
        state = self._state(worker)
        records = self._before.get(index, 0) + report.records
        return WorkerView(index, worker.pid, state, records, report.lag, worker.restarts)

    def _state(self, worker: WorkerProcess) -> str:
        if worker.pid is None:
            return "dead" if self.supervisor.running else "stopped"
        if not worker.report.tasks:
            return "idle" if worker.heard > worker.started else "starting"
        failed = next((task for task in worker.report.tasks if task.error), None)
        if failed is not None:
            raise KStreamError(f"worker {worker.index}: {failed.error}")
        return "restoring" if worker.report.restoring else "running"

    def _running_tasks(self) -> int:
        return sum(len(each.report.tasks) for each in self.supervisor.workers if self._state(each) == "running")

    def _say(self, text: str, style: str = "") -> None:
        self.view.events = [*self.view.events, Event(self.view.seconds, text, style)]

    # ---- the kill

    def _kill(self) -> None:
        """The busiest worker dies, in the middle of whatever it does."""
        alive = [worker for worker in self.supervisor.workers if worker.pid is not None]
        if not alive:
            return
        victim = max(alive, key=lambda worker: worker.report.records)
        assert victim.pid is not None
        self._kill_due, self._killed = False, (victim, victim.pid, time.monotonic())
        os.kill(victim.pid, signal.SIGKILL)
        self._say(f"SIGKILL to worker {victim.index} (pid {victim.pid})", "bold red")

    def _see_recovery(self) -> None:
        if self._killed is None:
            return
        worker, pid, at = self._killed
        busy = worker.report.records or self._ended is not None
        if worker.pid in (None, pid) or self._state(worker) != "running" or not busy:
            return
        self._killed = None
        restored = f", {worker.report.restored:,} restored" if worker.report.restored else ""
        self._say(
            f"worker {worker.index} works again after {time.monotonic() - at:.1f} s{restored}",
            "bold green",
        )


class Display:
    """A live screen in a terminal, else a line every `LINE_EVERY` seconds; events are lines at once."""

    def __init__(
        self, view: View, console: Console, screen: Callable[[int], RenderableType], last: Callable[[], RenderableType]
    ) -> None:  # fmt: skip
        """`screen` is the whole of it, for a terminal so many columns wide; `last` what stays where there is none."""
        self._view, self._console, self._screen, self._last = view, console, screen, last
        self._live = Live(console=console, auto_refresh=False, redirect_stderr=False) if console.is_terminal else None
        self._told = 0
        self._next_line = 0.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update(last=True)
        if self._live is not None:
            self._live.stop()

    def update(self, *, last: bool = False) -> None:
        view, now = self._view, time.monotonic()
        if self._live is not None:
            self._live.update(self._screen(self._console.width), refresh=True)
            return
        for event in view.events[self._told :]:
            self._console.print(event_line(event), markup=False)
        self._told = len(view.events)
        if now >= self._next_line or last:
            self._console.print(line(view), markup=False)
            self._next_line = now + LINE_EVERY
        if last and view.through:
            self._console.print(self._last())
