"""Everything at once that a record can do to its reader, among many that are good: each of the bad ones is set aside
with its reason, all others count exactly once, and the worker stays, with the memory it had."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from faults.poison_service import make_app
from kstream.config import Settings
from support.kafka import SECONDS, ends, read, write_bomb
from support.running import TESTS, prepare, until
from support.serving import Served

GOOD, KEYS, PARTITIONS = 10_000, 200, 2
BOMB = 100_000_000
PEAK = 600
"""MB that the worker takes at most. A bomb of 100 MB is there twice, in librdkafka and in Python; the largest dead
letters have 10 MB. A worker that reads the good records only takes 130."""

HOW_MANY = {
    "malformed": 45, "deep": 8, "digits": 2, "oversize": 2, "keyless": 2, "late": 2, "raise": 35, "exit": 7,
}  # fmt: skip
"""One record in a hundred is one of these."""

REASONS = {
    "malformed": ("msgspec.DecodeError", "decode"),
    "deep": ("kstream.errors.JsonOutOfBounds", "decode"),
    "digits": ("kstream.errors.JsonOutOfBounds", "decode"),
    "oversize": ("kstream.errors.RecordRefused", "produce"),
    "keyless": ("kstream.errors.RecordRefused", "produce"),
    "late": ("kstream.errors.RecordRefused", "produce"),
    "raise": ("builtins.ValueError", "process"),
    "exit": ("builtins.SystemExit", "process"),
}
RAW = {
    "malformed": b'{"number":7,"amount":',
    "deep": b'{"number":7,"amount":7,"note":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "digits": b'{"number":7,"amount":' + b"7" * 10_000_000 + b"}",
}


class Feed:
    """What is written, in its order, and what should come of it."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        kinds = [kind for kind, count in HOW_MANY.items() for _ in range(count)] + [""] * GOOD
        pick.shuffle(kinds)
        self.records: list[tuple[int, str, bytes]] = []  # partition, key, value
        self.totals: dict[str, list[int]] = defaultdict(list)
        self.counts: dict[str, list[int]] = defaultdict(list)
        self.doubles: dict[str, list[int]] = defaultdict(list)
        self.blobs: dict[str, list[bytes]] = defaultdict(list)
        for number, kind in enumerate(kinds):
            place = pick.randrange(KEYS)
            key, amount = f"k{place}", pick.randrange(100)
            value = RAW.get(kind) or json.dumps({"number": number, "amount": amount, "ask": kind}).encode()
            self.records.append((place % PARTITIONS, key, value))
            if not kind:
                self._good(number, key, amount)

    def _good(self, number: int, key: str, amount: int) -> None:
        self.totals[key].append((self.totals[key] or [0])[-1] + amount)
        self.counts[key].append(len(self.counts[key]) + 1)
        if amount % 2 == 0:
            self.doubles[key].append(2 * amount)
        if number % 100 == 0:
            self.blobs[key].append(b"%d" % number)


class Poisoned:
    def __init__(self, servers: str, directory: Path, name: str) -> None:
        self.servers, self.name, self.letters = servers, name, f"{name}-dead-letters"
        app = make_app(name)
        settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), instance="a", memory=64 << 20, web_port=0,
            announce_interval=0.0, restart_initial=0.1, restart_max=0.1, restart_jitter=0.0, session_timeout=30.0,
            kafka={"producer.message.max.bytes": "20000000"},  # a dead letter is as large as its record
        )  # fmt: skip
        prepare(app, settings)
        self.served = Served(app, "faults.poison_service:app", settings)
        (self.worker,) = self.served.supervisor.workers
        self.peaks: dict[int, int] = {}  # MB, by process

    def feed(self, feed: Feed) -> None:
        """With the bomb in the middle of partition 0."""
        producer = Producer(
            {"bootstrap.servers": self.servers, "compression.type": "gzip", "message.max.bytes": 100_000_000,
             "linger.ms": 5}
        )  # fmt: skip
        for number, (partition, key, value) in enumerate(feed.records):
            if number == len(feed.records) // 2:
                assert producer.flush(SECONDS) == 0
                write_bomb(self.servers, f"{self.name}.orders", 0, "gzip", BOMB)
            producer.produce(f"{self.name}.orders", value, key.encode(), partition)
            producer.poll(0)
        assert producer.flush(SECONDS) == 0

    def look(self) -> None:
        pid = self.worker.pid
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it is being started again
            return
        if pid is not None and "VmHWM:" in status:
            self.peaks[pid] = int(status.partition("VmHWM:")[2].split()[0]) // 1000

    def metric(self, name: str) -> float:
        return self.served.metrics()(name)

    def through(self) -> bool:
        """All records are committed, the bad ones too."""
        self.look()
        orders = f"{self.name}.orders"
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.name})
        asked = [TopicPartition(orders, partition) for partition in range(PARTITIONS)]
        committed = [one.offset for one in consumer.committed(asked, timeout=SECONDS)]
        consumer.close()
        return committed == [end for _, end in ends(self.servers, orders)]

    def listed(self) -> str:
        """What `kstream dlq list` says."""
        command = ["dlq", "list", "faults.poison_service:app", "--bootstrap-servers", self.servers, "--count", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "kstream.cli", *command], cwd=TESTS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put_out(self, what: str) -> dict[str, list[bytes]]:
        topic, found = f"{self.name}.{what}", defaultdict(list)
        for row in read(self.servers, [topic])[topic]:
            found[(row.key or b"none").decode()].append(row.value or b"")
        return dict(found)


@pytest.fixture
def poisoned(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poisoned]:
    name = f"poison-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    made = Poisoned(bootstrap_servers, tmp_path, name)
    yield made
    made.served.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [False, True], ids=["plain", "killed"])
def test_each_bad_record_is_set_aside_and_all_others_count_once(poisoned: Poisoned, killed: bool) -> None:
    feed = Feed(seed=7)
    began = time.monotonic()
    poisoned.feed(feed)
    print(f"fed after {time.monotonic() - began:.1f} s")
    if killed:
        until(lambda: poisoned.metric("kstream_dead_letters_total") > 30, "some dead letters", 120, poisoned.look)
        assert poisoned.worker.process is not None
        os.kill(poisoned.worker.process.pid, signal.SIGKILL)
        until(lambda: poisoned.worker.restarts == 1, "the restart")
    bad = sum(HOW_MANY.values())
    until(poisoned.through, "all records", 240, each=lambda: time.sleep(0.2))
    print(f"through after {time.monotonic() - began:.1f} s, peaks {sorted(poisoned.peaks.values())} MB")

    # every bad record is a dead letter, once, with its reason
    found: Counter[tuple[str, str]] = Counter()
    for row in read(poisoned.servers, [poisoned.letters])[poisoned.letters]:
        headers = {name: (value or b"").decode() for name, value in row.headers}
        found[headers["__streams.errors.exception"], headers["kstream.phase"]] += 1
    wanted: Counter[tuple[str, str]] = Counter()
    for kind, count in HOW_MANY.items():
        wanted[REASONS[kind]] += count
    assert found == wanted

    # and the command says so
    said = poisoned.listed()
    assert f"{bad} dead letters" in said, said
    by_class: Counter[str] = Counter()
    for (reason, _), count in wanted.items():
        by_class[reason.removeprefix("builtins.")] += count
    for reason, count in by_class.items():
        assert any(line.split()[:2] == [str(count), reason] for line in said.splitlines()), said

    # the others are all there, once, in their order
    for what, expected in (("totals", feed.totals), ("counts", feed.counts), ("doubles", feed.doubles)):
        have = {key: [int(value) for value in values] for key, values in poisoned.put_out(what).items()}
        assert have == dict(expected), what
    assert poisoned.put_out("blobs") == dict(feed.blobs)

    # the worker is the one that was started, or the one after the kill, and never grew
    assert poisoned.worker.restarts == (1 if killed else 0)
    assert max(poisoned.peaks.values()) < PEAK, poisoned.peaks
    if not killed:
        assert poisoned.metric("kstream_dead_letters_total") == bad
        assert poisoned.metric("kstream_records_skipped_total") == 1
