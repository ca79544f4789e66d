"""`python -m benchmarks.catchup`: which records an app loses as late when it was stopped for an hour and catches up.

The same records, windows and guarantee here (catchup_service.py) and as a program of Kafka Streams (java/CatchUp.java).
Each partition is in the order of its times, and they differ in size. Once the app runs while the records are written;
once it is stopped, finds an hour of them at its next start, and a worker is killed on the way through it (of kstream:
Kafka Streams is left alone). What its windows have is compared with what was written. Needs a JDK. Writes CATCHUP.md.
Exit status 1 when a run failed, or kstream lost or doubled something.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console

from benchmarks import machine
from benchmarks.__main__ import broker
from benchmarks.catchup_service import GRACE_MS, KEYS, PARTITIONS, WINDOW_MS, make_app
from benchmarks.data import delete_topics
from benchmarks.report import table
from benchmarks.runs import RunFailed
from benchmarks.streams import Java, compiled
from kstream.config import Settings
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.kafka import KafkaClients
from kstream.types import AdminClient, NewTopic
from kstream.types import TopicPartition as Place

RESULTS: Final = Path(__file__).parent / "CATCHUP.md"
SOURCE: Final = Path(__file__).parent / "java" / "CatchUp.java"
SIZES: Final = {"100 : 10 : 1": (20, 200, 2000), "2 : 1 : 1": (100, 200, 200)}
"""How large the partitions are beside each other, and the ms from record to record in each."""
FIRST: Final = next(iter(SIZES))
"""Of these alone there are runs without a stop: what is written as the app runs hangs little on the sizes."""
SLICE_MS: Final = GRACE_MS
"""While the app runs, so much is written at a time and waited for: no more than the grace, so nothing is late."""
PATIENCE: Final = 240.0
"""Seconds without progress after which a run has failed."""
QUIET: Final = 5.0
"""Seconds after which no more results are expected, once all records are committed."""

Written = tuple[int, int, int]
"""Event time, partition, and the number that is the value."""
Windows = Counter[tuple[bytes, int]]
"""Records of each window: its key and its start."""


class Side(Protocol):
    """One of the two systems, with an app of this name."""

    name: str
    group: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def look(self) -> None:
        """Lets it do what it has to do. Raises RunFailed where it has ended."""
        ...

    def strike(self) -> str:
        """Kills a part of it, if that is what is done to it; says what was."""
        ...


class Ours:
    def __init__(self, servers: str, folder: Path, name: str) -> None:
        self.name, self.group = name, consumer_group(name, "default")
        os.environ["KSTREAM_BENCH_CATCHUP"] = name
        self._app = make_app(name)
        self._settings = Settings(
            bootstrap_servers=servers, state_dir=f"{folder}/state", instance="bench", log_level="ERROR", web_port=0
        )
        self._open = ExitStack()

    def start(self) -> None:
        running = self._app.supervisor(
            settings=self._settings, workers=2, target="benchmarks.catchup_service:app"
        )  # fmt: skip
        self._supervisor = self._open.enter_context(running)
        self._supervisor.start()

    def look(self) -> None:
        self._supervisor.poll(0.02)
        if self._supervisor.failure:
            raise RunFailed(f"kstream ended: {self._supervisor.failure}")

    def strike(self) -> str:
        pid = self._supervisor.workers[0].pid
        if pid is None:
            raise RunFailed("the worker that was to be killed does not run")
        os.kill(pid, signal.SIGKILL)
        return ", a worker killed"

    def stop(self) -> None:
        self._supervisor.stop()
        self._supervisor.wait()
        self._open.close()


class Theirs:
    def __init__(self, servers: str, folder: Path, name: str, java: Java) -> None:
        self.name = self.group = name
        self._log = folder / "log"
        quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # to start: no speed is measured here
        self._command = [java.program, *quick, "-cp", java.class_path, "CatchUp", servers, name, f"{folder}/state"]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def look(self) -> None:
        time.sleep(0.02)
        if self._process.poll() is not None:
            raise RunFailed(f"Kafka Streams ended: {self._log.read_text()[-1000:]}")

    def strike(self) -> str:
        return ""

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.communicate(b"stop", timeout=PATIENCE)

    @property
    def dropped(self) -> int:
        """What it says itself, over all its lives."""
        return sum(map(int, re.findall(r"^dropped (\d+)$", self._log.read_text(), re.MULTILINE)))


class Topic:
    """The input, and how far the group has come in it."""

    def __init__(self, servers: str, admin: AdminClient, side: Side) -> None:
        self._admin, self._side = admin, side
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self._places = [Place(f"{side.name}-in", partition) for partition in range(PARTITIONS)]
        self.written = 0

    def write(self, records: Iterable[Written]) -> None:
        for at, partition, number in records:
            value = b"%d" % number
            self._producer.produce(f"{self._side.name}-in", value, value, partition, timestamp=at)
            self.written += 1
            if self.written % 10_000 == 0:
                self._producer.flush()
        self._producer.flush()

    def wait(self, count: int) -> None:
        """Until so many of the records are committed.

        Raises:
            RunFailed: it ended, or stands still.
        """
        done, moved = 0, time.monotonic()
        while done < count:
            self._side.look()
            found = self._admin.committed(self._side.group, self._places)
            if found.exception(30) is None:  # else a transaction is under way: at the next look
                before, done = done, sum(at[0] for at in found.result().values() if at is not None)
                moved = time.monotonic() if done > before else moved
            if time.monotonic() - moved > PATIENCE:
                raise RunFailed(f"{self._side.name}: nothing was committed for {PATIENCE:.0f} s")


def written(steps: Sequence[int], begin: int, end: int) -> list[Written]:
    """All records whose event times are from `begin` to `end`, in their order; each partition numbers its own."""
    return sorted(
        (at, partition, number)
        for partition, step in enumerate(steps)
        for number, at in enumerate(range(begin, end, step))
    )


def windows_of(records: Iterable[Written]) -> Windows:
    return Counter((b"%d" % (number % KEYS), at // WINDOW_MS * WINDOW_MS) for at, _, number in records)


def results(servers: str, topic: str) -> tuple[Windows, int]:
    """What the windows have, read committed, and how many results there are beyond one for each."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench-results", "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found, more, last = Windows(), 0, time.monotonic()
    while time.monotonic() - last < QUIET:
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                key = message.key() or b""
                window = key[:-8], int.from_bytes(key[-8:], "big")
                more += window in found
                found[window] += int(message.value() or b"0")
                last = time.monotonic()
    consumer.close()
    return found, more


class Row(NamedTuple):
    """One run. Records are those that were written and are in no window."""

    sizes: str
    system: str
    how: str
    windows: int
    small: int
    missing: int
    records: int
    lost: int
    wrong: int
    """Windows that have too much, or that were told twice."""
    said: int | None


def compare(expected: Windows, found: Windows, more: int) -> dict[str, int]:
    """What is wrong with the windows, by the fields of Row."""
    return {
        "windows": len(expected),
        "small": sum(0 < found[window] < count for window, count in expected.items()),
        "missing": sum(window not in found for window in expected),
        "records": expected.total(),
        "lost": sum(max(0, count - found[window]) for window, count in expected.items()),
        "wrong": more + sum(found[window] > count for window, count in expected.items()),
    }


def run(
    servers: str, side: Side, steps: Sequence[int], live: int, stopped: int, *, stop: bool
) -> tuple[str, dict[str, int]]:
    """One app over so many ms of input, stopped for the second part of it or not. Says what was done to it, too."""
    begin = (round(time.time() * 1000) - live - stopped - 3_600_000) // WINDOW_MS * WINDOW_MS
    end = begin + live + stopped
    records = written(steps, begin, end)
    how = "it runs"
    with closing(KafkaClients(servers).admin()) as admin:
        config = {"retention.ms": "-1"}
        topics = [NewTopic(f"{side.name}-{which}", PARTITIONS, config=config) for which in ("in", "out")]
        admin.create_topics(topics, 30)
        topic = Topic(servers, admin, side)
        side.start()
        try:
            at = 0
            for until in range(begin + SLICE_MS, (begin + live if stop else end) + 1, SLICE_MS):
                some = at
                while at < len(records) and records[at][0] < until:
                    at += 1
                topic.write(records[some:at])
                topic.wait(at)
            if stop:
                side.stop()
                how = f"stopped for {stopped // 60_000} minutes of input"
                topic.write(records[at:])
                side.start()
                topic.wait(at + (len(records) - at) // 3)
                how += side.strike()
            topic.wait(len(records))
            for later in (600_000, 1_200_000):  # Kafka Streams looks once a second which windows are over
                closing_records = [(end + later, p, number) for p in range(PARTITIONS) for number in range(KEYS)]
                topic.write(closing_records)
                topic.wait(topic.written)
                time.sleep(1.5)
            found, more = results(servers, f"{side.name}-out")
        finally:
            side.stop()
            delete_topics(servers, side.name)
    mine = Windows({window: count for window, count in found.items() if window[1] < end})
    return how, compare(windows_of(records), mine, more)


HEAD: Final = (
    "records of the partitions", "app", "", "windows", "too small", "missing", "records", "of these lost as late",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    share = f"{row.lost:,} ({row.lost / row.records:.0%})" if row.lost else "0"
    return (
        row.sizes, row.system, row.how, f"{row.windows:,}", f"{row.small:,}", f"{row.missing:,}", f"{row.records:,}",
        share,
    )  # fmt: skip


def page(rows: Sequence[Row], given: argparse.Namespace, facts: Mapping[str, str]) -> str:
    said = "; ".join(f"{row.said:,} of {row.lost:,}" for row in rows if row.said is not None)
    lines = [
        "# Catching up",
        "",
        "Made by `python -m benchmarks.catchup`. Records of three partitions, each in the order of its times, are "
        f"counted by another key ({KEYS} of them, so behind a repartition topic) in windows of a minute with a grace "
        f"of {GRACE_MS // 1000} s, that close once: {given.live + given.stopped} minutes of input. Either the app runs "
        f"while they are written, or it runs for the first {given.live} and finds the rest at its next start. The same "
        "in kstream ([catchup_service.py](catchup_service.py), two workers, of which one is killed on the way through) "
        "and in Kafka Streams 4.3.1 ([java/CatchUp.java](java/CatchUp.java), one thread, not killed), exactly once.",
        "",
        *table(HEAD, map(cells, rows), "lllrrrrr"),
        "",
        "No window has too much, and none was told twice, in any run."
        if not any(row.wrong for row in rows)
        else "NOT EXACT: " + ", ".join(f"{row.system}, {row.how}: {row.wrong}" for row in rows if row.wrong),
        f"Kafka Streams' own count of what it dropped (`dropped-records-total`), run by run: {said}.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catchup", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--live", type=int, default=10, help="minutes of input while it runs at first (10)")
    parser.add_argument("--stopped", type=int, default=60, help="minutes of input that it finds then (60)")
    parser.add_argument("--only", action="append", choices=list(SIZES), metavar="SIZES", help="one of the skews")
    parser.add_argument("--bootstrap", default=os.environ.get("KSTREAM_BOOTSTRAP_SERVERS"), help="a cluster to use")
    given = parser.parse_args()
    console = Console()
    live, stopped = given.live * 60_000, given.stopped * 60_000
    rows, failed = list[Row](), False
    with (
        tempfile.TemporaryDirectory(prefix="kstream-java-") as classes,
        broker(given.bootstrap, console) as (servers, what),
    ):
        facts = machine.facts(what)
        java = compiled(Path(classes), SOURCE)
        for sizes in given.only or SIZES:
            for system in ("Kafka Streams", "kstream"):
                for stop in (False, True) if sizes == FIRST else (True,):
                    name = f"bench-catchup-{os.getpid()}-{len(rows)}"
                    with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
                        side: Ours | Theirs
                        theirs = system == "Kafka Streams"
                        side = (
                            Theirs(servers, Path(folder), name, java) if theirs else Ours(servers, Path(folder), name)
                        )
                        try:
                            how, compared = run(servers, side, SIZES[sizes], live, stopped, stop=stop)
                        except RunFailed as error:
                            console.print(str(error), style="red", markup=False)
                            failed = True
                            continue
                        said = side.dropped if isinstance(side, Theirs) else None
                        rows.append(Row(sizes, system, how, **compared, said=said))
                        console.print("  ".join(cells(rows[-1])), markup=False, highlight=False)
    exact = not any(row.wrong or row.lost for row in rows if row.system == "kstream")
    if given.only is None and not failed:
        RESULTS.write_text(page(rows, given, facts), encoding="utf-8")
        console.print(f"written to {RESULTS}")
    return 0 if exact and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
