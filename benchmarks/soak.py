"""`python -m benchmarks.soak`: a steady turnover of keys with a TTL; what of it stays flat. Writes SOAK.md.

Keys come once, a tenth of them once more after half the TTL; in event time a millisecond lies between two keys, so that
as many are alive at a time as the TTL has milliseconds, however fast they go through. The worker is a real one, in this
process, on a development broker. Exit status 1 when what is left at the end is not what is to be alive.
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
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are there
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

import kstream
from benchmarks import machine, resident
from benchmarks.report import table
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.partitioning import partition_of
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from kstream.specs.ttl import TTL
from kstream.state.expiry import index_of
from kstream.state.timed import TimedStore

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "SOAK.md"
NAME, STORE, PARTITIONS = "soak", "seen", 4
BEGAN = 1_700_000_000_000
AGAIN = 10
"""Of so many keys one comes again."""
CLEANED = {
    "segment.bytes": str(16 << 20),
    "segment.ms": "30000",
    "min.cleanable.dirty.ratio": "0.2",
    "delete.retention.ms": "30000",
}
"""Settings of the changelog. With Kafka's own its broker would compact nothing in so short a run."""


def make_app(alive: int) -> kstream.App:
    app = kstream.App(NAME)
    events = app.topic(f"{NAME}-in", key=str, value=int, partitions=PARTITIONS, timestamp=lambda at: at)
    app.stream(events).group_by_key().count(name=STORE, ttl=TTL(seconds=alive / 1000, time="event"))
    return app


def events(keys: int, alive: int) -> Iterator[tuple[int, int]]:
    """Keys and their times (ms) in their order."""
    for number in range(keys):
        yield number, BEGAN + number
        earlier = number - alive // 2
        if earlier >= 0 and earlier % AGAIN == 0:
            yield earlier, BEGAN + number


def records(keys: int, alive: int) -> int:
    return keys + max(0, -((alive // 2 - keys) // AGAIN))


def alive_at_the_end(keys: int, alive: int) -> int:
    """How many keys have not expired when all has been processed: each partition has a time of its own."""
    now: Counter[int] = Counter()
    last: dict[int, tuple[int, int]] = {}
    for number, at in events(keys, alive):
        if number >= keys - 4 * alive:
            home = partition_of(b"%d" % number, PARTITIONS)
            now[home], last[number] = at, (home, at)
    return sum(at + alive > now[home] for home, at in last.values())


def feed(bootstrap: str, keys: int, alive: int) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4", "partitioner": "murmur2_random",
         "queue.buffering.max.messages": 500_000}
    )  # fmt: skip
    produce = producer.produce
    for number, at in events(keys, alive):
        while True:
            try:
                produce(f"{NAME}-in", b"%d" % at, b"%d" % number)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(300):
        raise RuntimeError("not all was delivered")


def size_of(*folders: Path) -> int:
    """Bytes on disk. Files that go meanwhile do not count."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.stat().st_blocks * 512 if path.is_file() else 0
            except FileNotFoundError:
                continue
    return total


def configure(bootstrap: str, topic: str, values: dict[str, str]) -> None:
    """Sets these settings of a topic."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    for future in admin.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]
    ).values():
        future.result()


class Soak:
    def __init__(self, broker: DevBroker, folder: Path, keys: int, alive: int) -> None:
        self.bootstrap, self.folder, self.keys, self.alive = broker.bootstrap_servers, folder, keys, alive
        self._logs = broker.data_dir / "logs"
        settings = Settings(
            bootstrap_servers=self.bootstrap,
            state_dir=str(folder / "state"),
            workers=0,
            announce_interval=0,
            commit_interval=1.0,
        )
        app = make_app(alive)
        admin = KafkaClients(self.bootstrap, options_from(settings, NAME)).admin()
        partitions = prepare_topics(app.topology(), admin, settings)
        admin.close()
        self.changelog = f"{NAME}-{STORE}-changelog"
        configure(self.bootstrap, self.changelog, CLEANED)
        self.worker: StreamWorker = make_worker(app, Identity(NAME, NAME, 0), settings, partitions)
        self.rows: list[tuple[str, ...]] = []
        self._began = 0.0

    def run(self, every: int) -> None:
        """Processes all there is, and notes how things stand after each `every` records."""
        total, due = records(self.keys, self.alive), every
        self.worker.start()
        self._began = time.monotonic()
        while (done := self.done) < total:
            self.worker.step()
            if done >= due:
                self.note(done)
                due += every
        self.settle()
        self.note(total)

    @property
    def done(self) -> int:
        """Records that are committed."""
        return sum(at for task in self.worker.tasks.values() for at in task.committed.values())

    @property
    def stores(self) -> list[TimedStore[int]]:
        found = [task.stores[STORE] for task in self.worker.tasks.values()]
        return [store for store in found if isinstance(store, TimedStore)]

    def settle(self) -> None:
        """What is due is swept, without a record."""
        until = time.monotonic() + 60
        while any(store.is_due() for store in self.stores) and time.monotonic() < until:
            self.worker.step()

    def entries(self, family: str) -> int:
        """Exactly how many there are: all are read."""
        return sum(sum(1 for _ in store.backend.scan(family)) for store in self.stores)

    def note(self, done: int) -> None:
        seconds, rss = time.monotonic() - self._began, resident.now()
        changelog = [self._logs / f"{self.changelog}-{partition}" for partition in range(PARTITIONS)]
        read = [sum(task.committed.values()) / 1e6 for task in self.worker.tasks.values()]
        row = (
            f"{done / 1e6:.1f}", f"{min(read):.1f} to {max(read):.1f}",
            f"{seconds:.0f}", f"{self.entries(STORE):,}", f"{self.entries(index_of(STORE)):,}",
            f"{size_of(self.folder / 'state') / 2**20:.0f}", f"{rss / 2**20:.0f}", f"{size_of(*changelog) / 2**20:.0f}",
            f"{sum(store.expired for store in self.stores):,}",
        )  # fmt: skip
        self.rows.append(row)
        print(" | ".join(row), flush=True)

    def visible(self) -> int:
        return sum(1 for store in self.stores for _ in store.scan())


HEAD = (
    "million records", "of a partition",
    "seconds", "entries", "index entries", "local state, MiB", "resident, MiB", "changelog, MiB",
    "expired so far",
)  # fmt: skip

HOW = """\
Of a backlog librdkafka brings as many partitions as there is room for in an answer, and the others when it is through
with them: "of a partition" says how far the one that is behind and the one that is ahead are. Those that have not begun
have no entries, so of four partitions half of the entries may be there at first, and all from half of the way on.
Entries and index entries are counted, all of them, in the backend; local state and changelog are what their files take
on disk; resident is the process's memory, in which the worker runs with default settings but for a commit a second. The
changelog's settings are such that its broker compacts within the run: {cleaned}.
With Kafka's defaults and kstream's two days for tombstones it is larger by what is written in that time, and as flat.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--keys", type=int, default=20_000_000)
    parser.add_argument("--alive", type=int, default=1_000_000, help="at a time: the TTL in milliseconds")
    parser.add_argument("--every", type=int, default=2_000_000, help="records between two looks")
    parser.add_argument("--folder", type=Path, help="for data; removed at the end (a temporary one)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--feed", metavar="SERVERS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.feed:
        feed(given.feed, given.keys, given.alive)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends then, too
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kstream-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    config = {"log.cleaner.dedupe.buffer.size": str(64 << 20), "log.cleaner.backoff.ms": "1000"}
    try:
        with DevBroker(data_dir=folder / "broker", config=config) as broker:
            facts = machine.facts(machine.development_broker())
            soak = Soak(broker, folder, given.keys, given.alive)
            feeding = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.soak", "--feed", soak.bootstrap, "--keys", str(given.keys),
                 "--alive", str(given.alive)], cwd=ROOT,
            )  # fmt: skip
            print(" | ".join(HEAD), flush=True)
            try:
                soak.run(given.every)
                left, wanted = soak.visible(), alive_at_the_end(given.keys, given.alive)
                soak.worker.close()
            finally:
                feeding.kill()
                feeding.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts["load after"] = " ".join(f"{one:.1f}" for one in os.getloadavg())
    what = f"{given.keys:,} keys, {given.alive:,} of which are alive at a time, and a tenth more that came twice."
    lines = [
        "# A steady turnover of keys with a TTL", "", f"Made by `python -m benchmarks.soak`: {what}", "",
        *table(HEAD, soak.rows, "r" * len(HEAD)), "",
        HOW.format(cleaned=", ".join(f"`{name}={value}`" for name, value in CLEANED.items())),
        "## The machine", "", *table(("", ""), facts.items(), "ll"), "",
    ]  # fmt: skip
    given.output.write_text("\n".join(lines), encoding="utf-8")
    print(f"alive at the end: {left:,}, as it is to be: {wanted:,}; written to {given.output}")
    return int(left != wanted)


if __name__ == "__main__":
    sys.exit(main())
