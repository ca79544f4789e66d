"""`python -m benchmarks.streams`: queries of Nexmark beside the same as programs of Kafka Streams (java/Nexmark.java).

The same records, topics, windows, guarantee (exactly once) and commit interval (200 ms); one worker here, one stream
thread there, each started alone, in turns. Timed is what their groups commit, as in benchmarks/nexmark.py. Needs a JDK.
Exit status 1 when one of them failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console

from benchmarks.data import delete_topics
from benchmarks.jdk import KAFKA_STREAMS, fetched, jdk
from benchmarks.nexmark import PREFIX, Measured, measure, recorded, watch
from benchmarks.report import table
from benchmarks.runs import RunFailed
from kstream.devbroker import jars
from kstream.devbroker.jars import Jar
from kstream.runtime.kafka import KafkaClients
from kstream.types import NewTopic
from services.nexmark.model import PARTITIONS, Auction, Bid, Person, topic_of

RESULTS: Final = Path(__file__).parent / "STREAMS.md"
SOURCE: Final = Path(__file__).parent / "java" / "Nexmark.java"
BARS: Final = {"q0": 2.0, "q1": 2.0, "q2": 2.0, "q5": 1.2, "q7": 1.2, "q8": 1.2, "q11": 1.2, "q12": 1.2}
"""What kstream is to be of Kafka Streams' speed, by query."""
READS: Final = {"q8": (Person, Auction)}
"""What a query reads, but for bids."""

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


def measure_java(servers: str, query: str, counts: Counter[str], java: Java) -> tuple[Measured, int]:
    """One run of Kafka Streams over all that lies in the topics, and how many records it dropped as late.

    Raises:
        RunFailed: it ended, or stands still.
    """
    application = f"{PREFIX}-java-{query}"
    with (
        tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder,
        closing(KafkaClients(servers).admin()) as admin,
    ):
        admin.create_topics([NewTopic(f"{application}-results", PARTITIONS, config={"retention.ms": "-1"})], 30)
        command = [java.program, "-cp", java.class_path, "Nexmark", servers, PREFIX, query, f"{folder}/state"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

        def failure() -> str | None:
            time.sleep(0.05)
            if process.poll() is None:
                return None
            return f"Kafka Streams ended: {(Path(folder) / 'log').read_text()[-1000:]}"

        try:
            partitions = {topic_of(kind, PREFIX): PARTITIONS for kind in READS.get(query, (Bid,))}
            measured = watch(query, admin, application, partitions, counts, failure)
        finally:
            process.communicate(b"stop", timeout=60)
            delete_topics(servers, application)
        dropped = re.search(r"^dropped (\d+)$", (Path(folder) / "log").read_text(), re.MULTILINE)
        if dropped is None:
            raise RunFailed(f"{query}: Kafka Streams did not say what it dropped")
        return measured, int(dropped[1])


class Pair(NamedTuple):
    """One query in one turn: records a second, and how many Kafka Streams dropped as late."""

    query: str
    ours: float
    theirs: float
    dropped: int


HEAD: Final = ("query", "Kafka Streams", "records it dropped", "kstream", "ratio", "bar", "met?")


def rows(found: Sequence[Pair]) -> list[tuple[str, ...]]:
    made = []
    for query, bar in BARS.items():
        pairs = [pair for pair in found if pair.query == query]
        if pairs:
            ratio = median(pair.ours / pair.theirs for pair in pairs)
            ours, theirs = median(pair.ours for pair in pairs), median(pair.theirs for pair in pairs)
            each = ", ".join(f"{pair.ours / pair.theirs:.1f}" for pair in pairs)
            met = "yes" if ratio >= bar else "NO"
            dropped = f"{median(pair.dropped for pair in pairs):,.0f}"
            made.append((query, f"{theirs:,.0f}", dropped, f"{ours:,.0f}", f"{ratio:.2f} ({each})", f"{bar:g}", met))
    return made


def page(found: Sequence[Pair], given: argparse.Namespace, facts: dict[str, str]) -> str:
    lines = [
        "# Beside Kafka Streams",
        "",
        f"Made by `python -m benchmarks.streams`: {given.events:,} events of "
        f"[services/nexmark](../services/nexmark/README.md) over {PARTITIONS} partitions, exactly once, a commit each "
        "200 ms, one worker beside one stream thread of Kafka Streams 4.3.1 ([java/Nexmark.java](java/Nexmark.java)), "
        f"in turns. Records a second, medians of {given.repeat}; the ratio is the median of the turns' own.",
        "",
        *table(HEAD, rows(found), "lrrrrrl"),
        "",
        "Not alike is what holds results back: kstream's windows close by what all partitions before a repartition "
        "have passed, those of Kafka Streams by what the task has seen: what comes behind that is dropped as late, "
        "though none is more than four seconds out of order in its partition. Kafka Streams' caches put out each "
        "changed count once a commit, where kstream's `count` puts out each update (q12). They are off where results "
        "come on close (q5, q7, q8): they are of no use there, and its first look at what is over goes through all "
        "minutes since 1970 with them, which takes it half a minute.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(BARS), metavar="QUERY", help="one of the queries")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many (1,000,000)")
    parser.add_argument("--repeat", type=int, default=3, help="turns (3)")
    parser.add_argument("--bootstrap", default=os.environ.get("KSTREAM_BOOTSTRAP_SERVERS"), help="a cluster to use")
    given = parser.parse_args()
    console = Console()
    found, failed = list[Pair](), False
    with (
        tempfile.TemporaryDirectory(prefix="kstream-java-") as folder,
        recorded(given.bootstrap, given.events, console) as (servers, counts, facts),
    ):
        java = compiled(Path(folder))
        for query in given.only or BARS:
            for _ in range(given.repeat):
                try:
                    theirs, dropped = measure_java(servers, query, counts, java)
                    ours = measure(servers, query, counts, 1)
                    found.append(Pair(query, ours.speed, theirs.speed, dropped))
                except RunFailed as error:
                    console.print(str(error), style="red", markup=False)
                    failed = True
            for row in rows([pair for pair in found if pair.query == query]):
                console.print("  ".join(row), markup=False, highlight=False)
    if given.only is None and not failed:
        RESULTS.write_text(page(found, given, facts), encoding="utf-8")
        console.print(f"written to {RESULTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
