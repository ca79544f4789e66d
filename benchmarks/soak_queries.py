"""`python -m benchmarks.soak_queries`: queries over many events; whether what is over is gone. Writes SOAK_QUERIES.md.

`q5` and `q8` are those of services/nexmark, whose windows close. `joined` asks what q8 asks by a join of two streams,
so it keeps buffers and looks who found nobody; `expired` has a timer for each auction. Records are made beside it, not
further ahead than two millions, and are deleted when they are committed, so that a disk of a few GiB is enough. The
worker is a real one, in this process, on a development broker. Exit status 1 when more is left at the end than the
records that closed all windows have.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

import kstream
from benchmarks import machine, resident
from benchmarks.report import table
from benchmarks.soak import CLEANED, configure, size_of
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from kstream.types import TopicPartition
from services.nexmark.feed import make_topics
from services.nexmark.generator import Events
from services.nexmark.inputs import NO_GRACE, Nexmark
from services.nexmark.model import PARTITIONS, TOPICS, Auction, Event, key_of, topic_of
from services.nexmark.queries import QUERIES
from services.writing import Written, write

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path(__file__).parent / "SOAK_QUERIES.md"
PREFIX: Final = "soak"
AHEAD: Final = 2_000_000
"""Records of the topics that are read that may be written and not committed."""
PURGED: Final = {"segment.bytes": str(4 << 20)}
"""Of repartition topics: brokers delete whole segments, and those of 50 MiB would not be full within the run."""
MEMORY: Final = 128 << 20
"""The worker's budget, in bytes: caches grow until theirs is taken, which with the default one takes hours here."""
LOOKS: Final = 8
LEFT: Final = 200
"""Entries that the records that close all windows may have themselves."""
QUIET: Final = 5.0
"""Seconds without a record after which all is done."""


def joined(n: Nexmark) -> None:
    """Who came, and opened an auction, within the same ten seconds: a left join of the two streams."""
    sold = n.auctions.rekey(lambda auction: auction.seller, key=int).map(lambda auction: auction.id, value=int)
    came = n.persons.map(lambda person: person.id, value=int)
    both = came.join(
        sold, lambda person, auction: auction or 0, within=kstream.Tumbling(seconds=10), grace=NO_GRACE, how="left",
        name="both",
    )  # fmt: skip
    both.to(n.results(int))


class Expiring(kstream.Processor[int, Auction, int]):
    """What an auction starts at, when it is over."""

    bid = kstream.ValueState(int)

    def process(self, auction: Auction, ctx: kstream.ProcessorContext[int, int]) -> None:
        self.bid.value = auction.initial_bid
        ctx.timer(at=auction.expires, name="over")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[int, int]) -> None:
        ctx.emit(self.bid.value or 0)
        self.bid.clear()


def expired(n: Nexmark) -> None:
    """A timer for each auction."""
    n.auctions.process(Expiring, name="expiring").to(n.results(int))


SOAKED: Final[dict[str, Callable[[Nexmark], None]]] = {
    "q5": QUERIES["q5"], "q8": QUERIES["q8"], "joined": joined, "expired": expired,
}  # fmt: skip


def kinds_of(query: str) -> list[type[Event]]:
    """What it reads."""
    n = Nexmark(query, PREFIX)
    SOAKED[query](n)
    inputs = {topic.name for topic in n.app.topology().declared}
    return [kind for kind in TOPICS if topic_of(kind, PREFIX) in inputs]


def feed(servers: str, query: str, count: int) -> None:
    """Writes the records that the query reads. Lines of standard input say how many of them are committed."""
    kinds, encode, events = set(kinds_of(query)), msgspec.json.Encoder().encode, Events(count)
    done, written = 0, 0

    def records() -> Iterator[Written]:
        nonlocal done, written
        for event in (one for made in (events, events.closing()) for one in made):
            if type(event) not in kinds:
                continue
            while written - done > AHEAD:
                done = int(sys.stdin.readline() or sys.maxsize)
            written += 1
            yield Written(topic_of(type(event), PREFIX), b"%d" % key_of(event), encode(event), int(time.time() * 1000))

    write(records(), {"bootstrap.servers": servers})


def records_of(query: str, count: int) -> int:
    """How many there are: of each fifty one is a person, three are auctions."""
    shares = {"persons": (0, 1), "auctions": (1, 4), "bids": (4, 50)}
    total = 0
    for kind in kinds_of(query):
        first, stop = shares[TOPICS[kind]]
        total += count // 50 * (stop - first) + max(0, min(count % 50, stop) - first) + PARTITIONS
    return total


class Look(NamedTuple):
    """How things stand. Sizes in bytes; `entries`: by what a store keeps; `rocksdb`, `objects`: of what is resident."""

    events: int
    seconds: float
    entries: Counter[str]
    state: int
    resident: int
    rocksdb: int
    objects: int
    changelogs: int
    repartition: int


class Soak:
    def __init__(self, broker: DevBroker, folder: Path, query: str, count: int) -> None:
        self.servers, self.folder, self.query, self.count = broker.bootstrap_servers, folder, query, count
        self._logs = broker.data_dir / "logs"
        settings = Settings(
            bootstrap_servers=self.servers, state_dir=str(folder / f"state-{query}"), workers=0, announce_interval=0,
            commit_interval=1.0, memory=MEMORY,
        )  # fmt: skip
        n = Nexmark(query, PREFIX)
        SOAKED[query](n)
        self._app = n.app.name
        self._admin = KafkaClients(self.servers, options_from(settings, self._app)).admin()
        make_topics(self.servers, PREFIX)
        partitions = prepare_topics(n.app.topology(), self._admin, settings)
        for topic in partitions:
            if topic.endswith("-changelog"):
                configure(self.servers, topic, CLEANED)
            elif topic.endswith("-repartition"):
                configure(self.servers, topic, PURGED)
        inputs = {topic_of(kind, PREFIX) for kind in kinds_of(query)}
        self._inputs = [TopicPartition(topic, n) for topic in inputs for n in range(PARTITIONS)]
        self.worker: StreamWorker = make_worker(n.app, Identity(self._app, self._app, 0), settings, partitions)
        self.looks: list[Look] = []
        self._began = 0.0

    def run(self, committed: Callable[[int], None]) -> None:
        """Processes all there is, and looks how things stand LOOKS times and at the end.

        Args:
            committed: told now and then how many records are.
        """
        total = records_of(self.query, self.count)
        due, told = 1, 0
        self.worker.start()
        self._began = time.monotonic()
        while (done := sum(self.done().values())) < total:
            self.worker.step()
            if done >= told + AHEAD // 20:
                told = done
                committed(done)
                self._admin.delete_records(self.done())
            if done >= due * total // LOOKS and due < LOOKS:
                self.look(due * self.count // LOOKS)
                due += 1
        self.settle()
        self.look(self.count)

    def done(self) -> dict[TopicPartition, int]:
        """How far the inputs are committed."""
        offsets = {at: offset for task in self.worker.tasks.values() for at, offset in task.committed.items()}
        return {at: offsets[at] for at in self._inputs if at in offsets}

    def settle(self) -> None:
        """What is behind a repartition comes through, and what is due is done."""
        records, moved = self.worker.records, time.monotonic()
        while time.monotonic() - moved < QUIET:
            self.worker.step()
            if self.worker.records != records:
                records, moved = self.worker.records, time.monotonic()

    def entries(self) -> Counter[str]:
        """Exactly how many there are, by what a store keeps: all are read."""
        found = Counter[str]()
        for task in self.worker.tasks.values():
            for store in task.stores.values():
                for family in store.families:
                    found[family] += sum(1 for _ in store.backend.scan(family))
        return found

    def look(self, events: int) -> None:
        seconds, rss = time.monotonic() - self._began, resident.now()

        def on_broker(kind: str) -> int:
            return size_of(*self._logs.glob(f"{self._app}-*-{kind}-*"))

        rocksdb = sum(self.worker.parts.memory_use().values())
        objects = sum(store.cached_bytes for task in self.worker.tasks.values() for store in task.stores.values())
        look = Look(
            events, seconds, self.entries(), size_of(self.folder / f"state-{self.query}"), rss, rocksdb, objects,
            on_broker("changelog"), on_broker("repartition"),
        )  # fmt: skip
        self.looks.append(look)
        print(self.query, *cells(look), sep=" | ", flush=True)

    def close(self) -> None:
        self.worker.close()
        self._admin.close()


def cells(look: Look) -> tuple[str, ...]:
    sizes = look.state, look.resident, look.rocksdb, look.objects, look.changelogs, look.repartition
    return (
        f"{look.events / 1e6:g}", f"{look.seconds:.0f}", *(f"{n:,}" for _, n in sorted(look.entries.items())),
        *(f"{size / 2**20:.0f}" for size in sizes),
    )  # fmt: skip


def head(look: Look) -> tuple[str, ...]:
    sizes = (
        "local state, MiB", "resident, MiB", "RocksDB's of it", "live objects", "changelogs, MiB", "repartition, MiB",
    )  # fmt: skip
    return ("million events", "seconds", *(f"in `{name}`" for name in sorted(look.entries)), *sizes)


def soak(broker: DevBroker, folder: Path, query: str, count: int) -> list[Look]:
    one = Soak(broker, folder, query, count)
    feeding = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_queries", "--feed", one.servers, "--query", query, "--events",
         str(count)], cwd=ROOT, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert feeding.stdin is not None
    pipe = feeding.stdin

    def committed(done: int) -> None:
        if feeding.poll() is None:
            with suppress(BrokenPipeError):  # it has just ended
                print(done, file=pipe, flush=True)
        elif feeding.returncode:
            raise RuntimeError("the records could not be written")

    try:
        one.run(committed)
    finally:
        feeding.kill()
        feeding.wait()
        one.close()
    return one.looks


HOW: Final = """\
Entries are counted, all of them, in the backend: keys of open windows, buckets of a join's buffers and records that
have found nobody yet, timers and what they are for, and indexes by time. Local state, changelogs and repartition
topics are what their files take on disk; resident is the process's memory, in which the worker runs with default
settings but for a commit a second and a budget of {memory} MiB, whose caches are full early; queries come one after
the other in one process, whose memory begins where the one before left it. The last row is after records of an hour
later, which close all windows but their own. The changelogs' settings are such that their broker compacts within the
run: {cleaned}; and those of repartition topics such that it deletes what is purged: {purged}, looked at each ten
seconds (brokers look each five minutes by default).
"""


def said(config: dict[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in config.items())


def page(found: dict[str, list[Look]], count: int, facts: dict[str, str]) -> str:
    lines = ["# Queries for long", "", f"Made by `python -m benchmarks.soak_queries`: {count:,} events each.", ""]
    for query, looks in found.items():
        names = head(looks[-1])
        what = (SOAKED[query].__doc__ or "").strip()
        lines += [f"## {query}", "", what, "", *table(names, map(cells, looks), "r" * len(names)), ""]
    lines += [
        HOW.format(memory=MEMORY >> 20, cleaned=said(CLEANED), purged=said(PURGED)),
        "## The machine",
        "",
        *table(("", ""), facts.items(), "ll"),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak_queries", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--query", action="append", choices=list(SOAKED), help="one of them (all)")
    parser.add_argument("--events", type=int, default=50_000_000, help="how many (50,000,000)")
    parser.add_argument("--folder", type=Path, help="for data; removed at the end (a temporary one)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--feed", metavar="SERVERS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    queries = given.query or list(SOAKED)
    if given.feed:
        feed(given.feed, queries[0], given.events)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends then, too
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kstream-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "log.cleaner.dedupe.buffer.size": str(64 << 20), "log.cleaner.backoff.ms": "1000",
        "log.retention.check.interval.ms": "10000",
    }  # fmt: skip
    found = dict[str, list[Look]]()
    facts = machine.facts(machine.development_broker())
    try:
        for query in queries:
            with DevBroker(data_dir=folder / "broker", fresh=True, config=config) as broker:
                found[query] = soak(broker, folder, query, given.events)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts["load after"] = " ".join(f"{one:.1f}" for one in os.getloadavg())
    given.output.write_text(page(found, given.events, facts), encoding="utf-8")
    left = {query: looks[-1].entries.total() for query, looks in found.items()}
    print(f"entries left: {left}; written to {given.output}")
    return int(max(left.values()) > LEFT)


if __name__ == "__main__":
    sys.exit(main())
