"""`python -m benchmarks.nexmark`: the queries of services/nexmark over the same records in a real Kafka.

The records lie there before a query starts, so it is as fast as it can be. Timed until the last is committed, with the
settings that there are by default. What the results are is checked by tests/faults/test_nexmark.py, not here. A run of
all queries writes a report beside itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import machine
from benchmarks.__main__ import broker
from benchmarks.data import delete_topics
from benchmarks.report import table
from benchmarks.runs import RunFailed
from kstream.config import Settings
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.kafka import KafkaClients
from kstream.types import AdminClient, TopicPartition
from services.nexmark.app import make_app
from services.nexmark.feed import feed, make_topics
from services.nexmark.generator import Events
from services.nexmark.model import TOPICS, topic_of
from services.nexmark.queries import QUERIES

RESULTS = Path(__file__).parent / "NEXMARK.md"
PREFIX = f"bench-{os.getpid()}"
PATIENCE = 60.0
"""Seconds without progress after which a run has failed."""
FEW = 500
"""Records that may be left in repartition topics: marks of transactions, and of time, which idle tasks go on with."""


@contextmanager
def recorded(bootstrap: str | None, count: int, console: Console) -> Iterator[tuple[str, Counter[str], dict[str, str]]]:
    """A cluster in whose topics so many records lie: its servers, how many there are of each topic, and the facts of
    the machine. The topics are deleted in the end."""
    os.environ["NEXMARK_PREFIX"] = PREFIX
    events = Events(count)
    with broker(bootstrap, console) as (servers, what):
        facts = machine.facts(what)
        records = [*events, *events.closing()]
        counts = Counter(topic_of(type(event), PREFIX) for event in records)
        make_topics(servers, PREFIX)
        try:
            feed(records, {"bootstrap.servers": servers}, prefix=PREFIX)
            yield servers, counts, facts
        finally:
            delete_topics(servers, PREFIX)


class Measured(NamedTuple):
    """Records that the query reads, and seconds in which they were done, but for those before the first look."""

    query: str
    records: int
    timed: int
    seconds: float

    @property
    def speed(self) -> float:
        """Records a second. Raises RunFailed where one commit did them all."""
        if not self.seconds:
            raise RunFailed(f"{self.query}: one commit did all {self.records:,} records: take more --events")
        return self.timed / self.seconds


class Started(NamedTuple):
    """A program that reads the topics.

    Attributes:
        query: which it does.
        application: what the names of its own topics begin with, before a `-`.
        group: what it commits as.
        partitions: how many each topic has that it reads.
        failure: lets it go on, and says how it failed, if it did.
    """

    query: str
    application: str
    group: str
    partitions: dict[str, int]
    failure: Callable[[], str | None]


@contextmanager
def started(servers: str, query: str, workers: int, prefix: str = PREFIX) -> Iterator[Started]:
    """One run of kstream. It is stopped in the end, and what it made is deleted."""
    os.environ["NEXMARK_PREFIX"] = prefix
    app = make_app(query, prefix)
    with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
        settings = Settings(
            bootstrap_servers=servers, state_dir=f"{folder}/state", instance="bench", log_level="WARNING", web_port=0
        )
        target = f"services.nexmark.app:{query}"
        with app.supervisor(settings=settings, workers=workers, target=target) as supervisor:
            inputs = {topic_of(kind, prefix) for kind in TOPICS}
            partitions = {topic: n for topic, n in supervisor.partitions.items() if topic in inputs}
            supervisor.start()

            def failure() -> str | None:
                supervisor.poll(0.05)
                return None if supervisor.failure is None else str(supervisor.failure)

            yield Started(query, app.name, consumer_group(app.name, "default"), partitions, failure)
            supervisor.stop()
            supervisor.wait()
    delete_topics(servers, f"{app.name}-")


def measure(servers: str, query: str, counts: Counter[str], workers: int) -> Measured:
    """One run over all that lies in the topics.

    Raises:
        RunFailed: it stopped, or stands still.
    """
    with started(servers, query, workers) as one, closing(KafkaClients(servers).admin()) as admin:
        return watch(admin, one, counts)


def watch(admin: AdminClient, one: Started, counts: Counter[str], since: float = 0.0) -> Measured:
    """Times what a group commits, until it has committed all that lies in the topics, and what it has written into
    repartition topics of its own, but for what those that have nothing to do go on writing there.

    Args:
        counts: records by topic.
        since: which share of the records is to be committed first, before the clock starts.

    Raises:
        RunFailed: it stopped, or stands still.
    """
    total = sum(counts[topic] for topic in one.partitions)
    places = [TopicPartition(topic, n) for topic, count in one.partitions.items() for n in range(count)]
    done, left, first, began, moved = 0, 0, 0, 0.0, time.monotonic()
    while done < total or left > FEW:
        failed = one.failure()
        before = done, left
        done = max(done, sum(committed(admin, one.group, places).values()))
        left = unread(admin, one) if done >= total else 0
        now = time.monotonic()
        moved = now if (done, left) != before else moved
        if done and done >= since * total and not first:
            first, began = done, now
        if failed is not None or now - moved > PATIENCE:
            raise RunFailed(f"{one.query}: {failed or f'nothing was committed for {PATIENCE:.0f} s'}")
    return Measured(one.query, total, total - first, moved - began)


def unread(admin: AdminClient, one: Started) -> int:
    """How many records of its repartition topics it has not committed."""
    inner = [
        topic for name, topic in admin.topics(30).items()
        if name.startswith(f"{one.application}-") and name.endswith("-repartition")
    ]  # fmt: skip
    places = [TopicPartition(topic.name, n) for topic in inner for n in range(topic.partitions)]
    ends, done = admin.end_offsets(places).result(30), committed(admin, one.group, places)
    return sum(ends[place] - done.get(place, 0) for place in places)


def committed(admin: AdminClient, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The offsets that a group has committed; none where the question failed: it is asked again soon."""
    found = admin.committed(group, places, stable=False)
    if found.exception(30) is not None:
        return {}
    return {place: at[0] for place, at in found.result().items() if at is not None}


def cells(one: Measured) -> tuple[str, ...]:
    said = (QUERIES[one.query].__doc__ or "").strip().partition(":")[0].rstrip(".")
    speed = f"{one.speed:,.0f}" if one.seconds else ""
    return one.query, said, f"{one.records:,}", speed


def page(found: Sequence[Measured], given: argparse.Namespace, facts: dict[str, str]) -> str:
    lines = [
        "# Nexmark",
        "",
        f"Made by `python -m benchmarks.nexmark`: {given.events:,} events of "
        f"[services/nexmark](../services/nexmark/README.md), workers: {given.workers}.",
        "",
        *table(("query", "what", "records read", "records/s"), map(cells, found), "llrr"),
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nexmark", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(QUERIES), metavar="QUERY", help="one of the queries")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many (1,000,000)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bootstrap", default=os.environ.get("KSTREAM_BOOTSTRAP_SERVERS"), help="a cluster to use")
    given = parser.parse_args()
    console = Console()
    found, failed = list[Measured](), False
    with recorded(given.bootstrap, given.events, console) as (servers, counts, facts):
        for query in given.only or QUERIES:
            try:
                found.append(measure(servers, query, counts, given.workers))
                console.print("  ".join(cells(found[-1])), markup=False, highlight=False)
            except RunFailed as error:
                console.print(str(error), style="red", markup=False)
                failed = True
    if given.only is None and not failed:
        RESULTS.write_text(page(found, given, facts), encoding="utf-8")
        console.print(f"written to {RESULTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
