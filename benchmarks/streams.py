"""`python -m benchmarks.streams`: queries of Nexmark beside the same as programs of Kafka Streams (java/Nexmark.java).

The same records, topics, guarantee (exactly once) and commit interval (200 ms); one worker here, one stream thread
there, each started alone, in turns; q0, q1 and q2 beside a loop written by hand, too (by_hand.py). Timed is what their
groups commit of the topics and of their own repartition topics (benchmarks/nexmark.py), from a fifth of the records
on: until then a JVM compiles what it runs. The results of each run are compared with what DuckDB says
(benchmarks/answers.py). Needs a JDK. Exit status 1 when a run failed or its results are not those; then nothing is
written.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console

from benchmarks import machine
from benchmarks.__main__ import broker
from benchmarks.answers import Answers, Results
from benchmarks.by_hand import STEPS
from benchmarks.data import delete_topics
from benchmarks.given import Given
from benchmarks.jdk import KAFKA_STREAMS, fetched, jdk
from benchmarks.nexmark import Measured, Started, started, watch
from benchmarks.report import table
from benchmarks.runs import RunFailed
from kstream.devbroker import jars
from kstream.devbroker.jars import Jar
from kstream.runtime.kafka import KafkaClients
from kstream.types import AdminClient, NewTopic
from services.nexmark.generator import Events
from services.nexmark.model import PARTITIONS, Auction, Bid, Event, Person, topic_of
from services.nexmark.queries import QUERIES

RESULTS: Final = Path(__file__).parent / "STREAMS.md"
ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = Path(__file__).parent / "java" / "Nexmark.java"
BARS: Final = {"q0": 2.0, "q1": 2.0, "q2": 2.0, "q5": 1.2, "q7": 1.2, "q8": 1.2, "q11": 1.2, "q12": 1.2}
"""What kstream is to be of Kafka Streams' speed, by query."""
BY_HAND: Final = 0.8
"""What kstream is to be of the speed of a loop written by hand, where there is one."""
READS: Final[dict[str, tuple[type[Event], ...]]] = {"q8": (Person, Auction)}
"""What a query reads, but for bids."""
ON_CLOSE: Final = {"q5", "q7", "q8", "q11"}
"""Their results come when windows close: for a program of Kafka Streams, later records must come for that."""
SINCE: Final = 0.2
"""The share of the records that is committed before the clock starts."""
QUICK: Final = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
"""For the JVM, where no speed is measured: it starts sooner."""

MORE: Final = [
    KAFKA_STREAMS,
    Jar(
        "org.rocksdb", "rocksdbjni", "10.1.3", 72725808,
        "e7f925287d9fe2574fb7c7a86f7facaa9b8ab602a2eed0e598bf633528121498",
    ),
]  # fmt: skip
"""Beside the broker's jars."""


class Java(NamedTuple):
    """A JDK's program and the compiled class with all that it needs."""

    program: str
    class_path: str


def compiled(folder: Path, source: Path = SOURCE) -> Java:
    """
    Args:
        source: a program; what it names beside it is compiled too.

    Raises:
        BrokerError: there is no JDK, or the jars cannot be had.
    """
    programs = jdk()
    class_path = os.pathsep.join(map(str, [*jars.install(), *fetched(MORE, "java-streams"), folder]))
    command = [programs / "javac", "-proc:none", "-cp", class_path, "-sourcepath", source.parent, "-d", folder, source]
    subprocess.run(command, check=True)
    return Java(str(programs / "java"), class_path)


class Log:
    """What a program had said, known when it has ended."""

    text = ""


@contextmanager
def started_beside(
    servers: str, query: str, given: Given, kind: str, command: Callable[[str, Path], list[str]], log: Log
) -> Iterator[Started]:
    """One run of a program that is not kstream. It is stopped in the end, and what it made is deleted.

    Args:
        kind: in the name of what it is to Kafka.
        command: what starts it, by that name and a folder of its own.
    """
    application = f"{given.prefix}-{kind}-{query}"
    with (
        tempfile.TemporaryDirectory(prefix="kstream-bench-") as name,
        closing(KafkaClients(servers).admin()) as admin,
    ):
        admin.create_topics([NewTopic(f"{application}-results", PARTITIONS, config={"retention.ms": "-1"})], 30)
        said = Path(name) / "log"
        with said.open("wb") as out:
            process = subprocess.Popen(
                command(application, Path(name)), cwd=ROOT, stdin=subprocess.PIPE, stdout=out, stderr=out
            )

        def failure() -> str | None:
            time.sleep(0.05)
            return None if process.poll() is None else f"{kind} ended: {said.read_text()[-1000:]}"

        try:
            partitions = {topic_of(read, given.prefix): PARTITIONS for read in READS.get(query, (Bid,))}
            yield Started(query, application, application, partitions, failure)
        finally:
            process.communicate(b"stop", timeout=60)
            delete_topics(servers, f"{application}-")
        log.text = said.read_text()


class Turn(NamedTuple):
    """One query once by each: how fast, what was written, and how many records Kafka Streams dropped as late."""

    query: str
    ours: Measured
    theirs: Measured
    wrote: Results
    they_wrote: Results
    dropped: int
    by_hand: Measured | None

    @property
    def ratio(self) -> float:
        return self.ours.speed / self.theirs.speed

    @property
    def of_by_hand(self) -> float | None:
        return None if self.by_hand is None else self.ours.speed / self.by_hand.speed


class Bench:
    """What all runs share.

    Args:
        flags: of the JVM.
    """

    def __init__(
        self, servers: str, admin: AdminClient, given: Given, answers: Answers, java: Java, flags: Sequence[str] = ()
    ) -> None:
        self._servers, self._admin, self._given, self._answers = servers, admin, given, answers
        self._java, self._flags = java, flags

    def turn(self, query: str) -> Turn:
        """
        Raises:
            Unequal: results of one of them are not what DuckDB says.
            RunFailed: one ended, or stands still.
        """
        self._given.anew(*READS.get(query, (Bid,)))
        log = Log()
        theirs = started_beside(self._servers, query, self._given, "java", self._java_for(query), log)
        measured, they_wrote = self._run(theirs, self._given.close if query in ON_CLOSE else nothing)
        dropped = re.search(r"^dropped (\d+)$", log.text, re.MULTILINE)
        if dropped is None:
            raise RunFailed(f"{query}: Kafka Streams did not say what it dropped")
        self._given.end()
        ours, wrote = self._run(started(self._servers, query, 1, self._given.prefix), nothing)
        by_hand = None
        if query in STEPS:
            loop = started_beside(self._servers, query, self._given, "by-hand", self._loop_for(query), Log())
            by_hand, _ = self._run(loop, nothing)
        return Turn(query, ours, measured, wrote, they_wrote, int(dropped[1]), by_hand)

    def _java_for(self, query: str) -> Callable[[str, Path], list[str]]:
        program, class_path = self._java
        begin = [program, *self._flags, "-cp", class_path, "Nexmark", self._servers, self._given.prefix]
        return lambda application, folder: [*begin, application, query, f"{folder}/state"]

    def _loop_for(self, query: str) -> Callable[[str, Path], list[str]]:
        begin = [sys.executable, "-m", "benchmarks.by_hand", self._servers, topic_of(Bid, self._given.prefix)]
        return lambda application, _: [*begin, f"{application}-results", application, query]

    def _run(self, begun: AbstractContextManager[Started], further: Callable[[], None]) -> tuple[Measured, Results]:
        with begun as one:
            measured = watch(self._admin, one, self._given.counts, SINCE)
            topic = f"{one.application}-results"
            return measured, self._answers.compared(self._servers, one.query, topic, one.failure, further)


def nothing() -> None:
    """Where no further records are needed."""


HEAD: Final = ("query", "Kafka Streams", "kstream", "ratio", "bar", "met?", "by hand", "ratio", "bar", "met?")
WROTE: Final = ("query", "what", "rows", "written by Kafka Streams", "by kstream", "dropped by Kafka Streams")


def rows(found: Sequence[Turn]) -> list[tuple[str, ...]]:
    made = []
    for query, bar in BARS.items():
        turns = [turn for turn in found if turn.query == query]
        if turns:
            ours, theirs = median(turn.ours.speed for turn in turns), median(turn.theirs.speed for turn in turns)
            cells = [query, f"{theirs:,.0f}", f"{ours:,.0f}", *judged([turn.ratio for turn in turns], bar)]
            loops = [turn.by_hand.speed for turn in turns if turn.by_hand is not None]
            if loops:
                cells += [f"{median(loops):,.0f}", *judged([turn.of_by_hand or 0.0 for turn in turns], BY_HAND)]
            made.append((*cells, *[""] * (len(HEAD) - len(cells))))
    return made


def judged(ratios: Sequence[float], bar: float) -> tuple[str, str, str]:
    """The median and each, the bar, and whether it is met."""
    ratio, each = median(ratios), ", ".join(f"{ratio:.1f}" for ratio in ratios)
    return f"{ratio:.2f} ({each})", f"{bar:g}", "yes" if ratio >= bar else "NO"


def results(found: Sequence[Turn]) -> list[tuple[str, ...]]:
    """What the last turn of each query wrote."""
    made = list[tuple[str, ...]]()
    for query in BARS:
        for turn in [turn for turn in found if turn.query == query][-1:]:
            what = (QUERIES[query].__doc__ or "").strip().rstrip(".")
            numbers = turn.wrote.rows, turn.they_wrote.written, turn.wrote.written, turn.dropped
            made.append((query, what, *(f"{number:,}" for number in numbers)))
    return made


def page(found: Sequence[Turn], given: argparse.Namespace, facts: dict[str, str]) -> str:
    lines = [
        "# Beside Kafka Streams",
        "",
        f"Made by `python -m benchmarks.streams`: {given.events:,} events of "
        f"[services/nexmark](../services/nexmark/README.md) over {PARTITIONS} partitions, exactly once, a commit each "
        "200 ms, one worker beside one stream thread of Kafka Streams 4.3.1 ([java/Nexmark.java](java/Nexmark.java)), "
        "in turns; q0, q1 and q2 beside a loop by hand, too ([by_hand.py](by_hand.py)). Records a second, from a fifth "
        f"of the records on, medians of {given.repeat}; the ratios are the medians of the turns' own.",
        "",
        *table(HEAD, rows(found), "lrrrrlrrrl"),
        "",
        "## What they wrote",
        "",
        "The results of each run, of both, were equal to what DuckDB answers for the same records: as many rows as "
        "below, each once. Else there would be no page.",
        "",
        *table(WROTE, results(found), "llrrrr"),
        "",
        DIFFERENT,
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


DIFFERENT: Final = """\
- q0, q1, q2: the same steps; both read and write the records as JSON of the same fields.
- q5, q7: the same two stages, of each auction first, then of the window; results on close. Kafka Streams gives a
  closed window's result the time of its last record: q5, whose windows overlap, sets it to their end, or its second
  stage would mix windows.
- q8: the same fold of people and auctions by person and window; results on close.
- q11: the same sessions; results on close.
- q12: the same counts. kstream writes each update, Kafka Streams what changed since the last commit, for it has a
  cache (the default). The last result of each key counts.

What holds results back is not alike. kstream's windows close by what all tasks before a repartition have passed, and
need no grace but for what the topics say (4 s). Kafka Streams goes by the newest record that the task has seen, and
drops what is behind that by more than the grace: behind a repartition its programs have half a minute, which a
backlog needs. Its last windows close only when later records come to each task, so it is given some once it has read
the rest, which is not timed; kstream's input has them.

Both have their own settings, but for a commit each 200 ms, exactly once, one thread, lz4 and batches of 1 MB; Kafka
Streams has 64 MiB for caches. Its results on close come from `suppress` behind a store with a cache:
`EmitStrategy.onWindowClose`, whose stores must do without, took more than twice as long (java/Nexmark.java).
"""
"""What differs between the two, by query."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(BARS), metavar="QUERY", help="one of the queries")
    parser.add_argument("--events", type=int, default=600_000, help="how many (600,000)")
    parser.add_argument("--repeat", type=int, default=3, help="turns (3)")
    parser.add_argument("--quick", action="store_true", help="20,000 events, one turn: are the results right?")
    parser.add_argument("--bootstrap", default=os.environ.get("KSTREAM_BOOTSTRAP_SERVERS"), help="a cluster to use")
    given = parser.parse_args()
    if given.quick:
        given.events, given.repeat = 20_000, 1
    console = Console()
    found, failed = list[Turn](), False
    events = Events(given.events, 1_000 if given.quick else 10_000)
    with (
        tempfile.TemporaryDirectory(prefix="kstream-java-") as folder,
        broker(given.bootstrap, console) as (servers, what),
        closing(KafkaClients(servers).admin()) as admin,
    ):
        facts, java, records = machine.facts(what), compiled(Path(folder)), Given(servers, events)
        answers, flags = Answers(events, records.arrivals()), QUICK if given.quick else ()
        bench = Bench(servers, admin, records, answers, java, flags)
        try:
            for query in given.only or BARS:
                for _ in range(given.repeat):
                    try:
                        found.append(bench.turn(query))
                    except RunFailed as error:
                        console.print(str(error), style="red", markup=False)
                        failed = True
                for row in [*([] if given.quick else rows(found)), *results(found)]:
                    if row[0] == query:
                        console.print("  ".join(row), markup=False, highlight=False)
        finally:
            records.remove()
    if given.only is None and not failed and not given.quick:
        RESULTS.write_text(page(found, given, facts), encoding="utf-8")
        console.print(f"written to {RESULTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
