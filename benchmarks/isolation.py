"""`python -m benchmarks.isolation`: what a CPU-bound agent does to a critical one; writes ISOLATION.md.

A light agent answers 200 requests a second; a heavy one, in the same app, has more work than it can do. Measured is
the time from a request to its committed answer, with the heavy agent idle, busy in an isolation group of its own, and
busy in the same workers. Two worker processes each time. Exit status 1 when something went wrong, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console

from benchmarks import machine
from benchmarks.data import delete_topics
from benchmarks.isolation_service import PARTITIONS, make_app
from benchmarks.report import table
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "ISOLATION.md"
EVERY: Final = 0.005
"""Seconds between two requests."""
BACKLOG: Final = 200_000
"""Records of heavy work: more than a run can do."""
CASES: Final = {
    "idle": "no heavy work",
    "apart": 'heavy work in `group="cpu-intensive"`',
    "together": "heavy work in the same workers",
}


class Figures(NamedTuple):
    """Seconds from request to committed answer, answers a second, heavy records a second."""

    p50: float
    p99: float
    answers: float
    heavy: float


class Run:
    """One case, from its topics to its figures."""

    def __init__(self, bootstrap: str, case: str, seconds: float, folder: Path) -> None:
        self.bootstrap, self.case, self.seconds, self.folder = bootstrap, case, seconds, folder
        self.name = f"bench-isolation-{uuid.uuid4().hex[:6]}"
        self.how = "together" if case == "together" else "apart"
        self._ending = threading.Event()

    def __call__(self) -> Figures:
        settings = Settings(bootstrap_servers=self.bootstrap, state_dir=str(self.folder))
        admin = KafkaClients(self.bootstrap, options_from(settings, "bench")).admin()
        try:
            prepare_topics(make_app(self.name, self.how == "apart").topology(), admin, settings)
            if self.case != "idle":
                self._fill()
            return self._measured()
        finally:
            admin.close()
            delete_topics(self.bootstrap, self.name)

    def _fill(self) -> None:
        producer = self._producer()
        for number in range(BACKLOG):
            producer.produce(f"{self.name}-work", b"%d" % number, str(number), number % PARTITIONS)
            if number % 1000 == 0:
                producer.poll(0)
        producer.flush(60)

    def _measured(self) -> Figures:
        environment = {
            **os.environ,
            "KSTREAM_BENCH_ISOLATION": f"{self.name}/{self.how}",
            "KSTREAM_BOOTSTRAP_SERVERS": self.bootstrap,
            "KSTREAM_STATE_DIR": str(self.folder),
            "KSTREAM_WORKERS": "2" if self.how == "together" else "1",
            "KSTREAM_WEB_PORT": "0",
        }
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kstream.cli", "run", "benchmarks.isolation_service:app"],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        feed = threading.Thread(target=self._feed)
        feed.start()
        reader = self._reader()
        try:
            self._read(reader, until=lambda latencies, heavy: len(latencies) > 200 and (heavy or self.case == "idle"))
            began = time.monotonic()
            latencies, heavy = self._read(reader, until=lambda *_: time.monotonic() - began > self.seconds)
            lasted = time.monotonic() - began
        finally:
            self._ending.set()
            feed.join()
            reader.close()
            process.send_signal(signal.SIGTERM)
            if process.wait(90) != 0:
                raise RuntimeError(f"the service failed: {(self.folder / 'log').read_text()[-2000:]}")
        return Figures(median(latencies), quantiles(latencies, n=100)[98], len(latencies) / lasted, heavy / lasted)

    def _producer(self) -> Producer:
        return Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 0, "queue.buffering.max.messages": 2_000_000}
        )

    def _feed(self) -> None:
        producer, due, number = self._producer(), time.monotonic(), 0
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due += EVERY
            number += 1
            value = repr(time.time()).encode()
            producer.produce(f"{self.name}-requests", value, str(number), number % PARTITIONS)
            producer.poll(0)
        producer.flush(20)

    def _reader(self) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "bench-isolation-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        topics = (f"{self.name}-answers", f"{self.name}-done")
        consumer.assign([TopicPartition(topic, each, 0) for topic in topics for each in range(PARTITIONS)])
        return consumer

    def _read(self, reader: Consumer, until: Any) -> tuple[list[float], int]:
        """Latencies of the answers that come, and the number of heavy records."""
        latencies: list[float] = []
        heavy, deadline = 0, time.monotonic() + 120
        while not until(latencies, heavy):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.case}: {len(latencies)} answers, {heavy} heavy records in 120 s")
            messages = reader.consume(1000, 0.02)
            now = time.time()
            for message in messages:
                if message.error() is not None:
                    continue
                if str(message.topic()).endswith("-answers"):
                    latencies.append(now - float(message.value() or b""))
                else:
                    heavy += 1
        return latencies, heavy


def markdown(found: dict[str, list[Figures]], facts: dict[str, str], repetitions: int, seconds: float) -> str:
    middle = {case: Figures(*map(median, zip(*runs, strict=True))) for case, runs in found.items()}
    rows = [
        (CASES[case], *(f"{each * 1000:,.0f} ms" for each in one[:2]), *(f"{each:,.0f}" for each in one[2:]))
        for case, one in middle.items()
    ]
    lines = [
        "# What a CPU-bound agent does to a critical one",
        "",
        f"Made by `python -m benchmarks.isolation`: medians of {repetitions} runs of {seconds:.0f} s. A light agent "
        "answers 200 requests a second; latency is from the request to its committed answer (`commit_interval` 0.2 s). "
        "Two worker processes each time, on the machine below.",
        "",
        *table(("", "latency p50", "p99", "answers/s", "heavy records/s"), rows, "lrrrr"),
        "",
        "## The machine",
        "",
        *table(("", ""), facts.items(), "ll"),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case; the median counts")
    parser.add_argument("--seconds", type=float, default=20, help="length of a run")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    given = parser.parse_args()
    found: dict[str, list[Figures]] = {case: [] for case in CASES}
    console = Console()
    with DevBroker() as broker:
        facts = machine.facts(machine.development_broker())
        for repetition in range(given.repeat):
            for case in CASES:
                with (
                    console.status(f"{repetition + 1}/{given.repeat} {case}"),
                    tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder,
                ):
                    found[case].append(Run(broker.bootstrap_servers, case, given.seconds, Path(folder))())
                console.print(case, found[case][-1])
    given.output.write_text(markdown(found, facts, given.repeat, given.seconds), encoding="utf-8")
    console.print(f"written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
