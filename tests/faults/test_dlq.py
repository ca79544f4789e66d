"""Replays and purges of dead letters that are killed, repeated, and run two at a time, on a real Kafka."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from kstream.cli import main
from support.kafka import SECONDS, create, ends
from support.running import TESTS, until

SERVICE = """
import kstream

app = kstream.App({name!r}, on_error=[kstream.DeadLetter()])
orders = app.topic("{name}.orders", key=str, value=int, partitions=2)
app.stream(orders).to(app.topic("{name}.out", key=str, value=int))
"""
COUNT = 6
Order = tuple[Any, Any, int, dict[str, Any]]


class Shop:
    """An app that does not run, and its dead letters."""

    def __init__(self, servers: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.servers, self.directory, self.name = servers, directory, f"dlq-{uuid.uuid4().hex[:8]}"
        self.module = self.name.replace("-", "_")
        (directory / f"{self.module}.py").write_text(SERVICE.format(name=self.name))
        self.orders, self.letters = f"{self.name}.orders", f"{self.name}-dead-letters"
        self.processes: list[subprocess.Popen[str]] = []
        for topic in (self.orders, self.letters):
            create(servers, topic, 2, retention_ms="-1")  # the records are of 2023

    def fill(self, count: int = COUNT) -> None:
        """Letters about orders 0, 1, ...: by turns of both partitions, all of a partition with one key."""
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5})
        for n in range(count):
            headers: list[tuple[str, str | bytes | None]] = [
                ("trace", b"%d" % n),
                ("__streams.errors.exception", b"builtins.ValueError"),
                ("__streams.errors.topic", self.orders.encode()),
                ("__streams.errors.partition", b"%d" % (n % 2)),
                ("__streams.errors.offset", b"%d" % n),
                ("kstream.app", self.name.encode()),
            ]
            producer.produce(
                self.letters, b"%d" % n, b"k%d" % (n % 2), partition=n % 2, timestamp=1_700_000_000_000 + n,
                headers=headers,
            )  # fmt: skip
            producer.poll(0)
        assert producer.flush(SECONDS) == 0

    def start(self, order: str, *arguments: str, batch: int = 2) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.dlq_killed", order, str(batch), "dlq", arguments[0], f"{self.module}:app",
             *arguments[1:], "--bootstrap-servers", self.servers],
            cwd=self.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin", "HOME": str(self.directory)},
        )  # fmt: skip
        self.processes.append(process)
        return process

    def kill(self, order: str, *arguments: str) -> None:
        """Runs a command that does not come through."""
        process = self.start(order, *arguments)
        out, err = process.communicate(timeout=100)
        assert process.returncode == -signal.SIGKILL, (process.returncode, out, err)

    def run(self, *arguments: str) -> str:
        """Runs one that does, in this process: starting one takes most of the time."""
        self.capsys.readouterr()
        command = ["dlq", arguments[0], f"{self.module}:app", *arguments[1:], "--bootstrap-servers", self.servers]
        status = main(command)
        out, err = self.capsys.readouterr()
        assert status == 0, (status, out, err)
        return str(out)

    def replayed(self) -> dict[int, list[Order]]:
        """Key, value, timestamp and headers of the committed orders, by partition. No transaction is left open."""
        consumer = Consumer({
            "bootstrap.servers": self.servers, "group.id": "tests", "isolation.level": "read_committed",
            "enable.partition.eof": True, "auto.offset.reset": "earliest",
        })  # fmt: skip
        consumer.assign([TopicPartition(self.orders, p, 0) for p in (0, 1)])
        wanted, at_end = ends(self.servers, self.orders), set()
        found: dict[int, list[Order]] = {0: [], 1: []}

        def take() -> None:
            for message in consumer.consume(1000, 0.1):
                if (error := message.error()) is not None:
                    assert error.code() == KafkaError._PARTITION_EOF
                    if message.offset() >= wanted[message.partition()][1]:
                        at_end.add(message.partition())
                    continue
                headers: Any = message.headers() or []
                found[message.partition() or 0].append(
                    (message.key(), message.value(), message.timestamp()[1], dict(headers))
                )

        until(lambda: at_end == {0, 1}, "the ends of the orders, with no transaction open", each=take)
        consumer.close()
        return found

    def check(self, count: int = COUNT) -> None:
        """Each order is there once, in its partition, in order, as it was."""
        for partition, rows in self.replayed().items():
            numbers = range(partition, count, 2)
            assert [(key, value, stamp) for key, value, stamp, _ in rows] == [
                (b"k%d" % partition, b"%d" % n, 1_700_000_000_000 + n) for n in numbers
            ]
            assert [headers for *_, headers in rows] == [
                {
                    "trace": b"%d" % n,
                    "kstream.replayed": f"{self.letters}:{partition}:{n // 2}".encode(),
                    "kstream.replays": b"1",
                }
                for n in numbers
            ]


@pytest.fixture
def shop(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    made = Shop(bootstrap_servers, tmp_path, capsys)
    yield made
    sys.modules.pop(made.module, None)
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


REPLAY = [
    "ensure:after:1", "init:before:1", "init:after:1", "read:before:1", "read:after:1", "begin:after:1",
    "send:before:1", "send:after:1", "send:after:2", "send:after:3", "commit:before:1", "commit:after:1",
    "send:after:5", "commit:before:2", "commit:after:2", "commit:after:3",
]  # fmt: skip


@pytest.mark.parametrize("order", REPLAY)
def test_a_replay_that_is_killed_and_repeated_writes_each_record_once(shop: Shop, order: str) -> None:
    shop.fill()
    shop.kill(order, "replay")
    done = (
        int(order[-1]) * 2
        if order.startswith("commit:after")
        else 2
        if order in ("send:after:5", "commit:before:2")
        else 0
    )
    out = shop.run("replay")
    told = f"replayed {COUNT - done} dead letters to {shop.orders}" if done < COUNT else "nothing to do"
    assert told in out and (f"{done} dead letters handled before" in out) is (done > 0)
    shop.check()
    assert f"nothing to do\n{COUNT} dead letters handled before" in shop.run("replay")
    shop.check()
    assert "0 dead letters\n6 more are handled (--all shows them)" in shop.run("list")


PURGE = ["init:after:1", "send:after:1", "commit:before:1", "commit:after:1", "commit:after:3", "delete:before:1",
         "delete:after:1", "send:after:8", "commit:before:4", "commit:after:4"]  # fmt: skip


@pytest.mark.parametrize("order", PURGE)
def test_a_purge_that_is_killed_can_be_repeated(shop: Shop, order: str) -> None:
    shop.fill()
    shop.kill(order, "purge", "--yes")
    shop.run("purge", "--yes")
    assert [start for start, _ in ends(shop.servers, shop.letters)] == [COUNT // 2] * 2
    assert shop.run("list").endswith("\n0 dead letters\n")
    assert "nothing to do" in shop.run("replay")
    assert shop.replayed() == {0: [], 1: []}


def test_of_two_replays_at_once_each_record_comes_once(shop: Shop) -> None:
    """The later one takes over, wherever the first one is; which of them that is, and when, is chance."""
    count = 1000
    shop.fill(count)
    both = [shop.start("never", "replay", batch=20) for _ in range(2)]
    # fifty transactions, each of which waits for its turn on a busy machine
    said = [(*process.communicate(timeout=240), process.returncode) for process in both]
    statuses = Counter(status for *_, status in said)
    assert statuses in (Counter({0: 2}), Counter({0: 1, 2: 1})), said
    if statuses[2]:
        (words,) = [err for _, err, status in said if status == 2]
        assert f"another kstream dlq replay or purge of {shop.name} has taken over" in words and words.count("\n") == 1
    shop.check(count)
    assert f"{count:,} dead letters handled before" in shop.run("replay")


def test_one_that_stands_still_meanwhile_writes_nothing_more(shop: Shop) -> None:
    """It is stopped amid a transaction; another one does all; then it goes on."""
    shop.fill(400)
    first = shop.start("never", "replay", batch=2)
    until(lambda: any(end for _, end in ends(shop.servers, shop.orders)), "the first one's work")
    first.send_signal(signal.SIGSTOP)
    shop.run("replay")
    first.send_signal(signal.SIGCONT)
    _, words = first.communicate(timeout=100)
    assert first.returncode == 2 and "has taken over" in words, words
    shop.check(400)
