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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from services.nexmark.model import topic_of
from services.nexmark.queries import QUERIES

RESULTS = Path(__file__).parent / "NEXMARK.md"
PREFIX = f"bench-{os.getpid()}"
PATIENCE = 60.0
"""Seconds without progress after which a run has failed."""


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


def measure(servers: str, query: str, counts: Counter[str], workers: int) -> Measured:
    """One run over all that lies in the topics.

    Raises:
        RunFailed: it stopped, or stands still.
    """
    app = make_app(query, PREFIX)
    with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
        settings = Settings(
            bootstrap_servers=servers, state_dir=f"{folder}/state", instance="bench", log_level="WARNING", web_port=0
        )
        target = f"services.nexmark.app:{query}"
        with (
            app.supervisor(settings=settings, workers=workers, target=target) as supervisor,
            closing(KafkaClients(servers).admin()) as admin,
        ):
            partitions = {topic: n for topic, n in supervisor.partitions.items() if topic in counts}
            supervisor.start()

            def failure() -> str | None:
                supervisor.poll(0.05)
                return supervisor.failure

            measured = watch(query, admin, consumer_group(app.name, "default"), partitions, counts, failure)
            supervisor.stop()
            supervisor.wait()
    delete_topics(servers, f"{app.name}-")
    return measured


def watch(
    query: str, admin: AdminClient, group: str, partitions: Mapping[str, int], counts: Counter[str],
    failure: Callable[[], str | None],
) -> Measured:  # fmt: skip
    """Times what a group commits, until it has committed all that lies in the topics.

    Args:
        partitions, counts: of the topics that the query reads.
        failure: called before each look; says how it failed, if it did.
    """
    total = sum(counts[topic] for topic in partitions)
    places = [TopicPartition(topic, n) for topic, count in partitions.items() for n in range(count)]
    done, first, began, moved = 0, 0, 0.0, time.monotonic()
    while done < total:
        failed = failure()
        found = admin.committed(group, places)
        now = time.monotonic()
        if found.exception(30) is None:  # else a transaction is under way: at the next look
            before, done = done, sum(at[0] for at in found.result().values() if at is not None)
            moved = now if done > before else moved
            if done and not first:
                first, began = done, now
        if failed is not None or now - moved > PATIENCE:
            raise RunFailed(f"{query}: {failed or f'nothing was committed for {PATIENCE:.0f} s'}")
    return Measured(query, total, total - first, moved - began)


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
