"""Instances of a service, in their own processes, and conditions with deadlines."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import Report

TESTS = Path(__file__).parent.parent


SECONDS = 60.0
"""How long a condition is waited for. A process starts in a second, and in ten where many want the processor."""


def until(
    condition: Callable[[], Any], what: str, seconds: float = SECONDS, each: Callable[[], object] | None = None
) -> Any:
    """Waits for a condition and returns what it gave; calls `each` again and again meanwhile. What takes long is looked
    at less often: looking takes the time of those that are waited for. Not much less where `each` has work to do."""
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"after {seconds:.0f} s still waiting for {what}"
        if each is not None:
            each()
        time.sleep(min(max(0.005, waited / 50), 0.05 if each is None else 0.02))
    return found


def write_module(path: Path, text: str) -> None:
    """Writes a module that another process may have imported already. Python takes a file of the same second and size
    for the one that it compiled, so each version is a second younger than the one before, and is there at once."""
    now = time.time()
    stamp = max(now, path.stat().st_mtime + 1) if path.exists() else now
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    os.utime(draft, (stamp, stamp))
    draft.replace(path)
    importlib.invalidate_caches()


class Instance:
    """A real Supervisor with real worker processes, polled by the test.

    `lives` keeps the last report of each life of each worker.
    """

    def __init__(
        self, target: str, app: str, name: str, settings: Settings, partitions: dict[str, int], workers: int = 1
    ) -> None:
        self.name, self.settings = name, settings
        self.supervisor = Supervisor(Program(target), app, name, settings, partitions, workers)
        self.lives: dict[tuple[int, int], Report] = {}
        self._asked: list[WorkerProcess] | None = None
        self.supervisor.start()

    def poll(self) -> None:
        self.supervisor.poll(0.0)
        for worker in self.supervisor.workers:
            if worker.runs and worker.report.tasks:
                self.lives[worker.index, worker.restarts] = worker.report

    @property
    def reports(self) -> list[Report]:
        """The latest report of each worker that runs."""
        return [worker.report for worker in self.supervisor.workers if worker.runs]

    @property
    def restarts(self) -> int:
        return sum(worker.restarts for worker in self.supervisor.workers)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.supervisor.workers if worker.pid]

    def tasks(self, state: str = "running") -> list[str]:
        return [task.name for report in self.reports for task in report.tasks if task.state == state]

    def ask_to_stop(self) -> None:
        """Once: a second time would mean "at once"."""
        if self._asked is None:
            self._asked = [worker for worker in self.supervisor.workers if worker.runs]
            self.supervisor.stop()

    def stop(self, seconds: float = SECONDS) -> None:
        """A clean stop: every worker must leave by itself."""
        self.ask_to_stop()
        workers = self._asked or []
        until(lambda: not self.supervisor.running, "the workers' end", seconds, each=self.poll)
        # one that was just started anew, and had not come as far as to heed a signal, had nothing to leave
        unborn = {-signal.SIGTERM}
        wrong = [one for one in workers if one.status not in (unborn | {0} if one.heard == one.started else {0})]
        assert not wrong, [(one.name, one.status, one.last_error) for one in wrong]

    def kill(self) -> None:
        for pid in self.pids:  # it should have stopped by now: its stacks go to standard error
            kill(pid, signal.SIGUSR1)
        self.supervisor.stop(signal.SIGKILL)
        until(lambda: not self.supervisor.running, "the workers' end", each=self.poll)


def prepare(app: kstream.App, settings: Settings) -> dict[str, int]:
    """Creates or checks the app's topics."""
    admin = KafkaClients(settings.bootstrap_servers, options_from(settings, app.name)).admin()
    try:
        return prepare_topics(app.topology(), admin, settings, timeout=SECONDS)
    finally:
        admin.close()


class Command:
    """`kstream ...` as a process of its own; what it prints goes to files in `directory`."""

    def __init__(self, directory: Path, *arguments: object, cwd: Path = TESTS, **environment: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.out, self.err = directory / "out", directory / "err"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kstream.cli", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                start_new_session=True,  # a process group of its own, as a shell would give it
                env={**os.environ, **environment},
            )

    @property
    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def wait(self, seconds: float = SECONDS) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        """For clean-up: nothing of it is left."""
        pids = self.children
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in pids:
            kill(pid)


def children_of(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
