"""`kstream demo`: the whole of 2013 through the service on a real Kafka, with a worker killed half-way, then audited.

In order: a broker (or a cluster of one's own), the service under its supervisor in this process, the replay and the
watch in threads, the loop that draws and kills, a clean stop, the audit.

On a cluster of one's own the topics begin with "flights"; none may be there before, and they are deleted at the end.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from kstream.cli.broker import download_progress
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.devbroker import KAFKA_VERSION, DevBroker
from kstream.errors import KStreamError, UsageError
from kstream.runtime.child import options_from
from kstream.runtime.instance import claim
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.prepare import prepare_topics
from kstream.runtime.supervisor import Supervisor, WorkerProcess
from services.flights import audit
from services.flights.app import app, flights
from services.flights.board import Event, View, WorkerView, board, event_line, line, screen
from services.flights.replay import data_file, read_flights, replay
from services.flights.watch import Watch

TARGET = "services.flights.app:app"
STALLED = 60.0  # seconds without a commit after which the demo gives up
RESTARTS = 5  # deaths of a worker, beyond the one we cause, after which the demo gives up
SETTLE = 10.0  # seconds that a killed worker may take to be back when everything is through
REFRESH, LINE_EVERY, SPEED_OVER = 0.1, 2.0, 3.0  # seconds


def run(
    *,
    kill: bool,
    workers: int,
    rate: float | None,
    bootstrap: str | None,
    limit: int | None = None,
    console: Console | None = None,
) -> int:
    """Runs the demo. Returns 0 when the audit agrees, 1 when not or when it failed, 130 when interrupted.

    Args:
        kill: end a worker with SIGKILL half-way.
        rate: flights a second; None is as fast as it goes.
        bootstrap: a cluster to use; None is that of KSTREAM_BOOTSTRAP_SERVERS, else a development broker.
        limit: only the first so many flights.

    Raises:
        UsageError: something to mend, in one line.
    """
    console = console or Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    bootstrap = bootstrap or os.environ.get("KSTREAM_BOOTSTRAP_SERVERS")
    folder = Path(tempfile.mkdtemp(prefix="kstream-demo-"))
    log, status = folder / "workers.log", 1
    try:
        with _interruptible(), _cluster(bootstrap, console) as servers:
            settings = _settings(servers, folder)
            with _topics(settings, delete=bootstrap is not None) as partitions:
                with _errors_into(log), _service(settings, partitions, workers) as supervisor:
                    replay = Replay(_client(settings), rate, limit)
                    view = Performance(supervisor, replay, Watch(_client(settings), partitions), kill, console).play()
                with console.status("Auditing the committed output against the CSV"):
                    verdict = audit.run(_client(settings), limit)
                _report(console, view, verdict)
                status = 0 if verdict.ok else 1
    except KeyboardInterrupt:
        console.print("Interrupted: everything was stopped and removed.")
        return 130
    except UsageError:
        raise
    except KStreamError as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False)
    finally:
        if status == 1 and log.exists() and log.stat().st_size:
            shutil.rmtree(folder / "state", ignore_errors=True)
            console.print(f"What the workers said: {log}", markup=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


# ---- what it runs on


@contextlib.contextmanager
def _cluster(bootstrap: str | None, console: Console) -> Iterator[str]:
    """The servers of the given cluster, or of a development broker that lives as long as the context."""
    if bootstrap is not None:
        yield bootstrap
        return
    began = time.monotonic()
    with download_progress(console) as on_progress:
        broker = DevBroker(on_progress=on_progress).start()
    with broker:
        console.print(
            f"Kafka {KAFKA_VERSION} on {broker.bootstrap_servers}, started in {time.monotonic() - began:.1f} s"
        )
        yield broker.bootstrap_servers


def _settings(servers: str, folder: Path) -> Settings:
    """Of the environment and kstream.toml, but for what would make the demo another one."""
    settings, _ = resolve_settings(
        app.overrides,
        {
            "bootstrap_servers": servers,
            "state_dir": str(folder / "state"),
            "instance": None,
            "auto_create_topics": True,
            "restart_initial": 0.1,
            "shutdown_timeout": 20.0,
            "log_format": "console",
        },
        None,
    )
    return settings


def _client(settings: Settings) -> dict[str, str]:
    return {**settings.kafka, "bootstrap.servers": settings.bootstrap_servers}


@contextlib.contextmanager
def _topics(settings: Settings, *, delete: bool) -> Iterator[dict[str, int]]:
    """Makes the service's topics, gives the partition count of each, and deletes them at the end if so asked.

    Raises:
        UsageError: topics of these names are there.
    """
    topology = app.topology()
    names = {topic.name for topic in topology.declared}
    for part in topology.parts:
        names |= {*part.topics, *(topic.name for topic in part.sinks), *map(topology.changelog, part.stores)}
    admin = KafkaClients(settings.bootstrap_servers, options_from(settings, app.name)).admin()
    with contextlib.closing(admin):
        there = [name for name in admin.topics(15) if name in names or name.startswith(f"{app.name}-")]
        if there:
            raise UsageError(
                f"{settings.bootstrap_servers} has {', '.join(sorted(there))}: the demo needs topics of its own; "
                "delete these, or use another cluster"
            )
        try:
            yield prepare_topics(topology, admin, settings)
        finally:
            if delete:
                admin.delete_topics(sorted(names), 30)


@contextlib.contextmanager
def _service(settings: Settings, partitions: dict[str, int], workers: int) -> Iterator[Supervisor]:
    """The service's supervisor, not yet started. What still runs at the end is killed."""
    held = claim(Path(settings.state_dir), app.name, settings.instance)
    supervisor = Supervisor(TARGET, app.name, held.name, settings, partitions, workers)
    try:
        yield supervisor
    finally:
        supervisor.stop(signal.SIGKILL)
        supervisor.wait()
        held.release()


@contextlib.contextmanager
def _errors_into(log: Path) -> Iterator[None]:
    """Sends standard error, the workers' too, to a file: it would tear the display."""
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is as Ctrl-C."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- the performance


class Replay(threading.Thread):
    """A thread that reads the flights and, when told to `go`, replays them.

    Attributes:
        total: how many there are; None until they have been read.
        sent: how many were handed over so far.
        failure: why it ended early.
    """

    def __init__(self, client: Mapping[str, str], rate: float | None, limit: int | None) -> None:
        super().__init__(name="replay", daemon=True)
        self.total: int | None = None
        self.sent = 0
        self.failure: Exception | None = None
        self._client, self._rate, self._limit = client, rate, limit
        self._go, self._halt = threading.Event(), threading.Event()

    def go(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._halt.set()
        self._go.set()
        self.join(10)

    def run(self) -> None:
        try:
            year = read_flights(self._limit)
            self.total = len(year)
            self._go.wait()
            replay(year, flights.name, self._client, rate=self._rate, sent=self._count, stop=self._halt)
        except Exception as error:
            self.failure = error

    def _count(self, sent: int) -> None:
        self.sent = sent


class Performance:
    """One run: replays, watches, draws, kills, waits until all is through, stops the service cleanly."""

    def __init__(self, supervisor: Supervisor, replay: Replay, watch: Watch, kill: bool, console: Console) -> None:
        self.supervisor, self.view = supervisor, View()
        self._replay, self._watch = replay, watch
        self._display = Display(self.view, console)
        self._began: float | None = None
        self._ended: float | None = None
        self._kill_due = kill
        self._killed: tuple[WorkerProcess, int, float] | None = None  # who, as which pid, when
        self._before: dict[int, int] = {}  # records of a worker's earlier lives
        self._seen: dict[int, tuple[int, int]] = {}  # restarts and records of a worker when last looked at
        self._speeds: deque[tuple[float, int]] = deque()

    def play(self) -> View:
        """Raises KStreamError when the service or the replay fails, or nothing moves any more."""
        with self._display:
            try:
                self.supervisor.start()
                self._replay.start()
                self._watch.start()
                self._until_ready()
                self._began = time.monotonic()
                self._replay.go()
                self._until_through()
                self._say("all flights are through: stopping", "bold")
                self.supervisor.stop()
                self.supervisor.wait()
                self._say("the workers have stopped")
            finally:
                self._replay.stop()
                self._watch.stop()
                self._look()
        return self.view

    def _until_ready(self) -> None:
        deadline = time.monotonic() + STALLED
        while self._replay.total is None or any(self._state(each) != "running" for each in self.supervisor.workers):
            self._turn()
            if time.monotonic() > deadline:
                raise KStreamError(f"the workers were not ready within {STALLED:.0f} s")
        self.view.total = self._replay.total
        tasks = ", ".join(f"{len(worker.report.tasks)}" for worker in self.supervisor.workers)
        self._say(f"the workers are ready, with {tasks} tasks")

    def _until_through(self) -> None:
        moved_at, through = time.monotonic(), 0
        while self._watch.flights < self.view.total:
            self._turn()
            now = time.monotonic()
            if self._watch.flights > through or self._replay.sent == through:
                moved_at, through = now, self._watch.flights
            if now - moved_at > STALLED:
                raise KStreamError(f"nothing was committed for {STALLED:.0f} s, with {through:,} flights through")
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
                raise KStreamError(f"worker {worker.index} died {worker.restarts} times")
        if self._replay.failure is not None:
            raise KStreamError(f"the replay failed: {self._replay.failure}")
        if self._watch.failure is not None:
            raise KStreamError(f"the output cannot be read: {self._watch.failure}")

    def _look(self) -> None:
        """Brings the view up to date."""
        view, now = self.view, time.monotonic()
        view.sent, view.through, view.alerted = self._replay.sent, self._watch.flights, self._watch.alerted
        view.carriers, view.alerts = self._watch.carriers(), list(self._watch.latest_alerts)
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
            return "starting"
        failed = next((task for task in worker.report.tasks if task.error), None)
        if failed is not None:
            raise KStreamError(f"worker {worker.index}: {failed.error}")
        return "restoring" if worker.report.restoring else "running"

    def _say(self, text: str, style: str = "") -> None:
        self.view.events = [*self.view.events, Event(self.view.seconds, text, style)]

    # ---- the kill

    def _half_way(self) -> bool:
        """Every flight is processed twice, by its aircraft and by its carrier; the carriers come later."""
        work = sum(worker.records for worker in self.view.workers)
        return work >= self.view.total or self.view.through >= self.view.total // 2

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

    def __init__(self, view: View, console: Console) -> None:
        self._view, self._console = view, console
        self._names = carrier_names()
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
            self._live.update(screen(view, self._names, self._console.width), refresh=True)
            return
        for event in view.events[self._told :]:
            self._console.print(event_line(event), markup=False)
        self._told = len(view.events)
        if now >= self._next_line or last:
            self._console.print(line(view), markup=False)
            self._next_line = now + LINE_EVERY
        if last:
            self._console.print(board(view, self._names))


def carrier_names() -> dict[str, str]:
    with data_file("airlines.csv").open(newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def _report(console: Console, view: View, verdict: audit.Verdict) -> None:
    """The verdict: one line to remember, what it rests on, and the first differences."""
    good = "bold green" if verdict.ok else "bold red"
    judged = f"{verdict.lost:,} lost, {verdict.duplicated:,} duplicated"
    console.print(f"{verdict.flights:,} flights in {view.seconds:.1f} s: {judged}", style=good)
    facts = ", ".join(verdict.facts)
    console.print(f"{verdict.records:,} output records compared in {verdict.seconds:.1f} s; {facts}")
    if verdict.wrong:
        console.print(f"{verdict.wrong:,} records are wrong", style="bold red")
    for difference in verdict.differences:
        console.print(f"  {difference}", style="red", markup=False)
    if verdict.not_shown:
        console.print(f"  ... and {verdict.not_shown:,} more differences", style="red")
