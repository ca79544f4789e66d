"""One run: a process that does one job over one input topic, watched until it is through, its output checked."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import services
from benchmarks.checks import check_totals, check_windows
from benchmarks.child import WATCH, Result, Watch
from benchmarks.data import Data, delete_topics, make_topics
from kstream.config import Settings
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import Handover, decode, encode_handover

ROOT = Path(__file__).parent.parent
TIMEOUT = 600.0
"""Seconds after which a run has failed."""

Progress = Callable[[int], None]


class RunFailed(Exception):
    """A process ended badly or took too long; the text ends with its last words."""


@dataclass(slots=True)
class Outcome:
    """What one run measured."""

    rate: float
    """Records a second."""
    cpu: float
    """Seconds of processor time of the process, per million records."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Service:
    """One kstream service, from its topics to its state directory."""

    bootstrap: str
    kind: str
    data: Data
    name: str
    commit_interval: float | None

    def settings(self, state_dir: Path) -> Settings:
        """The defaults, but for what the case is about."""
        given: dict[str, Any] = {} if self.commit_interval is None else {"commit_interval": self.commit_interval}
        return Settings(
            bootstrap_servers=self.bootstrap, state_dir=str(state_dir), instance="bench", log_level="WARNING", **given
        )

    def run(self, watch: Watch, progress: Progress, command: list[str] | None = None) -> Result:
        """Runs one worker over it, with an empty state directory.

        Raises:
            RunFailed.
        """
        with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
            settings = self.settings(Path(folder) / "state")
            topology = services.KINDS[self.kind](self.name, self.data.topic).topology()
            admin = KafkaClients(self.bootstrap, options_from(settings, "bench")).admin()
            try:
                partitions = prepare_topics(topology, admin, settings)
            finally:
                admin.close()
            return self._run(settings, partitions, watch, progress, Path(folder) / "log", command)

    def _run(
        self,
        settings: Settings,
        partitions: dict[str, int],
        watch: Watch,
        progress: Progress,
        log: Path,
        command: list[str] | None,
    ) -> Result:
        reading, writing = os.pipe()
        told, commands = os.pipe()
        handover = Handover(
            program=Program("benchmarks.services:app"),
            path=[str(ROOT)],
            settings=msgspec.Raw(settings.to_json()),
            app=self.name,
            instance="bench",
            group="default",
            index=0,
            partitions=partitions,
        )
        environment = {
            **os.environ,
            **services.as_environment(self.kind, self.name, self.data.topic),
            WATCH: msgspec.json.encode(watch).decode(),
        }
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*(command or []), sys.executable, "-m", "benchmarks.child", str(told), str(writing)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(told, writing),
            )
        os.close(writing)
        os.close(told)
        assert process.stdout is not None
        try:
            os.write(commands, encode_handover(handover) + b"\n")
            self._follow(reading, watch, progress)
            result = process.stdout.read()
            status = process.wait(TIMEOUT)
            if status != 0 or not result:
                raise RunFailed(f"{self.name} ended with status {status}: {_tail(log)}")
            return msgspec.json.decode(result.splitlines()[-1], type=Result)
        except BrokenPipeError:
            raise RunFailed(f"{self.name} did not start: {_tail(log)}") from None
        except TimeoutError:
            raise RunFailed(f"{self.name} was not through after {TIMEOUT:.0f} s: {_tail(log)}") from None
        finally:
            process.kill()
            process.wait()
            os.close(commands)
            process.stdout.close()
            os.close(reading)

    def _follow(self, reports: int, watch: Watch, progress: Progress) -> None:
        """Reads the worker's reports until it ends."""
        deadline = time.monotonic() + TIMEOUT
        rest = b""
        while True:
            if not select.select([reports], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(reports, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                report = decode(line)
                progress(report.restored if watch.restore else report.records)

    def check(self) -> None:
        """Raises WrongOutput when the output is not what the input makes of it."""
        if self.kind == "windowed":
            check_windows(self.bootstrap, f"{self.name}-out", f"{self.name}-totals-changelog", self.data)
            return
        check_totals(self.bootstrap, f"{self.name}-out", self.data, every_update=self.kind != "commit")

    def remove(self) -> None:
        delete_topics(self.bootstrap, f"{self.name}-")


def outcome_of(result: Result) -> Outcome:
    return Outcome(
        result.records / result.seconds,
        result.cpu / result.records * 1e6,
        {"commits": result.commits, "aborts": result.aborts, "peak_rss": result.peak_rss, "rss": result.rss},
    )


def run_yardstick(
    bootstrap: str, data: Data, name: str, emit: str, commit_interval: float, *, keep: bool = False
) -> Outcome:
    """One run of the hand-written aggregation, checked.

    Raises:
        RunFailed, WrongOutput.
    """
    out = f"{name}-out"
    make_topics(bootstrap, [out, f"{name}-changelog"])
    outcome = _yardstick(
        "aggregate", data.topic, out, f"{name}-changelog", "--bootstrap", bootstrap, "--records", str(data.records),
        "--emit", emit, "--commit-interval", str(commit_interval),
    )  # fmt: skip
    check_totals(bootstrap, out, data, every_update=emit == "update")
    if not keep:
        delete_topics(bootstrap, f"{name}-")
    return outcome


def run_forward(bootstrap: str, data: Data, name: str, *, decode: bool) -> Outcome:
    """One run of the clients alone, a commit a second.

    Raises:
        RunFailed.
    """
    out = f"{name}-out"
    make_topics(bootstrap, [out])
    more = ["--decode"] if decode else []
    outcome = _yardstick("forward", data.topic, out, "--bootstrap", bootstrap, "--records", str(data.records), *more)
    delete_topics(bootstrap, f"{name}-")
    return outcome


def run_restore_yardstick(bootstrap: str, changelog: str, records: int) -> Outcome:
    """One run of the hand-written restore.

    Raises:
        RunFailed.
    """
    return _yardstick("restore", changelog, "--bootstrap", bootstrap, "--records", str(records))


def _yardstick(*arguments: str) -> Outcome:
    command = [sys.executable, "-m", "benchmarks.yardstick", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"the yardstick was not through after {TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        raise RunFailed(f"the yardstick ended with status {done.returncode}: {_last_lines(done.stderr)}")
    measured = msgspec.json.decode(done.stdout.splitlines()[-1])
    records = measured["records"]
    details = {"commits": measured["commits"], "peak_rss": measured["peak_rss"]}
    return Outcome(records / measured["seconds"], measured["cpu"] / records * 1e6, details)


def _tail(log: Path) -> str:
    return _last_lines(log.read_bytes())


def _last_lines(text: bytes) -> str:
    return "\n".join(text.decode(errors="replace").strip().splitlines()[-15:]) or "it said nothing"
