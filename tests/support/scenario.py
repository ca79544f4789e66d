"""One test's service: its own app, topics, state directories and input, and what it must come to."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from faults.service import make_app
from kstream.config import Settings
from support.audit import OUTPUTS, audit, audit_state
from support.kafka import Reader, ends, write, writer
from support.running import SECONDS, Command, Instance, prepare, until

QUICK: dict[str, Any] = {
    "commit_interval": 0.1,
    "flush_interval": 0.2,
    "session_timeout": 3.0,
    "restart_initial": 0.1,
    "restart_max": 1.0,
    "log_level": "INFO",
}
"""Settings that make things happen soon."""


class Scenario:
    """`feed` input, `start` instances, wait until it is `processed`, `stop` them, `check` everything."""

    target = "faults.service:app"

    def __init__(
        self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch, partitions: int = 4, **settings: Any
    ) -> None:
        self.servers, self.directory = servers, directory
        self.app = f"faults-{uuid.uuid4().hex[:8]}"
        self.environment = {
            "KSTREAM_TEST_APP": self.app,
            "KSTREAM_TEST_DIR": str(directory),
            "KSTREAM_TEST_PARTITIONS": str(partitions),
        }
        self._monkeypatch = monkeypatch
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.given = {**QUICK, **settings}
        self.partitions = prepare(make_app(self.app, partitions), self.settings("any"))
        self.instances: list[Instance] = []
        self.commands: list[Command] = []
        self.fed = 0
        self._random = random.Random(self.app)
        self._reader: Reader | None = None

    def settings(self, instance: str) -> Settings:
        return Settings(
            bootstrap_servers=self.servers, state_dir=str(self.state_dir(instance)), instance=instance, **self.given
        )

    def state_dir(self, instance: str) -> Path:
        return self.directory / f"state-{instance}"

    def setenv(self, name: str, value: str) -> None:
        """For the workers that are started from now on."""
        self.environment[name] = value
        self._monkeypatch.setenv(name, value)

    # ---- running

    def start(self, name: str = "a", workers: int = 1) -> Instance:
        instance = Instance(self.target, self.app, name, self.settings(name), self.partitions, workers)
        self.instances.append(instance)
        return instance

    def command(self, name: str = "a", workers: int = 1, state_dir: Path | None = None, **settings: object) -> Command:
        """The same as a `kstream run`."""
        given = {**self.given, **settings}
        pairs = [word for pair in given.items() for word in ("--set", "=".join(map(str, pair)))]
        command = Command(
            self.directory / f"command-{len(self.commands)}",
            "run", self.target, "--workers", workers, "--instance", name,
            "--state-dir", state_dir or self.state_dir(name), "--bootstrap-servers", self.servers, *pairs,
        )  # fmt: skip
        self.commands.append(command)
        return command

    def poll(self) -> None:
        for instance in self.instances:
            instance.poll()
        if self._reader is not None:
            self._reader.poll(0.0)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        try:
            return until(condition, what, seconds, each=self.poll)
        except AssertionError as error:  # why, as far as anybody knows
            raise AssertionError("\n".join((str(error), *self._state()))) from None

    def _state(self) -> Iterator[str]:
        """What the workers last said of themselves, and what of their output is committed."""
        for instance in self.instances:
            for worker in instance.supervisor.workers:
                yield f"{worker.name}: runs {worker.runs}, restarts {worker.restarts}, last error {worker.last_error}"
                yield f"  member {worker.report.member}, commits {worker.report.commits}"
                for task in worker.report.tasks:
                    yield f"  {task.name} {task.state}, lag {task.lag}: {task.why}"
        if self._reader is not None:
            yield f"fed {self.fed}, read { {topic: len(rows) for topic, rows in self._reader.rows.items()} }"

    def stop(self) -> None:
        for instance in self.instances:
            instance.ask_to_stop()
        for instance in self.instances:
            instance.stop()

    def end(self) -> None:
        """For clean-up: nothing of it is left."""
        with ExitStack() as ending:
            for command in self.commands:
                ending.callback(command.end)
            for instance in self.instances:
                ending.callback(instance.kill)
            if self._reader is not None:
                ending.callback(self._reader.close)

    def says(self, command: Command, words: str) -> None:
        """Waits for words in what the command writes to standard error."""
        self.until(lambda: words in command.err.read_text(), repr(words))

    # ---- input and output

    def feed(self, count: int, *, at: int | None = None, keys: int = 40, producer: Producer | None = None) -> None:
        """Writes events at once. `at`: their event time in ms."""
        write(self.servers, f"{self.app}.events", self._events(count, at, keys), producer)

    def _events(self, count: int, at: int | None, keys: int) -> Iterator[tuple[str, bytes, int]]:
        now = round(time.time() * 1000) if at is None else at
        for _ in range(count):
            event = {"number": self.fed, "group": f"g{self._random.randrange(7)}", "amount": self._random.randrange(20)}
            yield f"k{self._random.randrange(keys)}", json.dumps(event).encode(), now
            self.fed += 1

    def feed_until(self, condition: Callable[[], Any], what: str, *, chunk: int = 50, seconds: float = SECONDS) -> None:
        """Goes on feeding while things happen, until the condition holds."""
        producer = writer(self.servers)

        def more() -> None:
            self.feed(chunk, producer=producer)
            for _ in range(5):
                self.poll()
                time.sleep(0.005)

        until(condition, what, seconds, each=more)

    @property
    def output(self) -> Reader:
        """Committed outputs, as they come."""
        if self._reader is None:
            self._reader = Reader(self.servers, [f"{self.app}.{topic}" for topic in OUTPUTS])
        return self._reader

    def is_processed(self) -> bool:
        rows = self.output.rows
        if len(rows[f"{self.app}.counts"]) < self.fed or len(rows[f"{self.app}.groups"]) < self.fed:
            return False
        last = {row.key: json.loads(row.value or b"")["count"] for row in rows[f"{self.app}.latest"]}
        return sum(last.values()) >= self.fed

    def processed(self, seconds: float = SECONDS) -> None:
        self.until(self.is_processed, f"all {self.fed} events to be processed", seconds)

    def settled(self) -> None:
        """Waits until the workers report that nothing waits and nothing is restored."""

        def reported() -> bool:
            reports = [report for instance in self.instances for report in instance.reports if report.tasks]
            running = all(task.state == "running" for report in reports for task in report.tasks)
            return bool(reports) and running and not any(report.lag or report.restoring for report in reports)

        self.until(reported, "the workers to report that nothing is left to do")

    # ---- flushes of local state

    def flushed(self) -> None:
        """Waits until everything processed so far is on the workers' disks."""
        told = self.directory / "flushed"

        def count() -> int:
            return told.stat().st_size if told.exists() else 0

        workers = sum(len(instance.supervisor.workers) for instance in self.instances)
        enough = count() + 3 * workers
        self.until(lambda: count() >= enough, "a flush of the local state")

    def stop_flushing(self) -> None:
        (self.directory / "no-flush").touch()

    def changelog_records(self) -> int:
        """Offsets in all changelogs: records and markers."""
        return sum(
            end - start
            for topic in self.partitions
            if topic.endswith("-changelog")
            for start, end in ends(self.servers, topic)
        )

    def output_records(self) -> int:
        """Offsets in all outputs: records and markers."""
        return sum(end - start for name in OUTPUTS for start, end in ends(self.servers, f"{self.app}.{name}"))

    # ---- faults

    def order(self, fault: str) -> None:
        """Before `start`: see faults/injection.py."""
        self.setenv("KSTREAM_TEST_KILL", fault)

    def arm(self) -> None:
        (self.directory / "armed").touch()

    @property
    def struck(self) -> dict[str, Any] | None:
        """What was going on when the fault struck."""
        told = self.directory / "struck"
        text = told.read_text() if told.exists() else ""
        return json.loads(text) if text else None

    def poison(self, how: str) -> None:
        """Some events fail from now on ("raise", "refuse"): see faults/service.py."""
        (self.directory / "poison").write_text(how)

    def mend(self) -> None:
        (self.directory / "poison").unlink()

    # ---- the end

    def check(self, *, state: bool = True) -> None:
        """All committed outputs against the input, all changelogs and all local stores. After a clean stop."""
        demand = audit(self.servers, self.app)
        directories = [path for path in self.directory.glob("state-*")] if state else []
        audit_state(self.servers, self.app, demand, directories)


Scenarios = Callable[..., Scenario]


def scenarios(servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenarios]:
    """For a fixture: makes scenarios, and ends what they started."""
    made = 0

    def make(partitions: int = 4, **settings: Any) -> Scenario:
        nonlocal made
        own = directory / str(made)
        own.mkdir()
        made += 1
        scenario = Scenario(servers, own, monkeypatch, partitions, **settings)
        ending.callback(scenario.end)  # of each, whatever the others' ends raise
        return scenario

    with ExitStack() as ending:
        yield make
