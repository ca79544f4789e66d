"""What functions give for headers, timestamps and destinations, and that a real broker and the TestDriver make the same
of it: the same records, and of what is refused the same words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.making import make_worker
from kstream.testing import TestDriver
from support.kafka import SECONDS, ends, write
from support.running import prepare, until

NOW = round(time.time()) * 1000
"""That of each input record."""
AT = datetime(2024, 2, 29, 12, 30, 15, 123456)

HEADERS: Mapping[str, Any] = {
    "pairs": [("a", b"1"), ("a", b"2"), ("b", None), ("c", "täxt"), ("", b"")],
    "tuples": (("a", b"1"),),
    "int": [("n", 5)],
    "dict inside": [("n", {"a": 1})],
    "a dict": {"a": b"1"},
    "bytes name": [(b"n", b"1")],
    "bytearray": [("n", bytearray(b"1"))],
    "no pairs": ["ab", "cd"],
    "text": "abc",
    "NUL": [("a\0b", b"1")],
    "surrogate": [("a", "\ud800")],
}
TIMESTAMPS: Mapping[str, Any] = {
    "naive": AT,
    "utc": AT.replace(tzinfo=UTC),
    "+02:00": AT.replace(tzinfo=timezone(timedelta(hours=2))),
    "ms": 1_600_000_000_001,
    "1 ms": 1,
    "before 1970": datetime(1969, 12, 31, tzinfo=UTC),
    "zero": 0,
    "1970": datetime(1970, 1, 1, tzinfo=UTC),
    "negative": -1,
    "64 bits": 2**63,
    "bool": True,
    "float": 1.6e12,
    "text time": "2024-02-29",
}
PARTITIONS: Mapping[str, Any] = {"partition 1": 1, "partition 7": 7, "partition -2": -2, "partition text": "1"}
REFUSED_BY_KAFKA = {"partition 7": "[7]", "partition -2": "[-2]"}
CASES = [
    *(f"{how} {what}" for what in (*HEADERS, *TIMESTAMPS) for how in ("returns", "sends")),
    *(f"sends {what}" for what in PARTITIONS),
]


class Put(NamedTuple):
    """A record of the output."""

    key: str
    partition: int
    timestamp: int
    headers: list[tuple[str, bytes | None]] | None


class Came(NamedTuple):
    """What came of all cases; `dead` has the error of each record that was refused."""

    out: list[Put]
    dead: dict[str, str]


class Odd:
    def __init__(self, name: str) -> None:
        self.app = app = kstream.App(name, on_error=[kstream.DeadLetter()])
        self.source = app.topic(f"{name}.in", key=str, value=str, partitions=1)
        self.out = app.topic(f"{name}.out", key=str, value=str, partitions=2, config={"retention.ms": "-1"})
        self.dead = f"{name}-dead-letters"
        app.agent(self.source, to=self.out)(self.does)

    def does(self, case: str, ctx: kstream.Context[str]) -> kstream.Record[str, str] | None:
        how, _, what = case.partition(" ")
        more: dict[str, Any] = {}
        if what in HEADERS:
            more["headers"] = HEADERS[what]
        elif what in TIMESTAMPS:
            more["timestamp"] = TIMESTAMPS[what]
        elif what in PARTITIONS:
            more["partition"] = PARTITIONS[what]
        if how == "returns":
            return kstream.Record(case, what, **more)
        ctx.send(self.out, what, **more)
        return None


def in_memory(odd: Odd) -> Came:
    with TestDriver(odd.app, partitions=1, commit_interval=0.1) as driver:
        for case in CASES:
            driver.send(odd.source, case, key=case, timestamp=NOW, partition=0)
        driver.commit()
        out = [
            Put(str(one.key, "utf-8"), one.partition, one.timestamp, one.headers or None)  # type: ignore[arg-type]
            for one in driver.cluster.records(odd.out.name)
        ]
        dead = {
            str(one.key, "utf-8"): str(dict(one.headers or [])["__streams.errors.message"], "utf-8")  # type: ignore[arg-type]
            for one in driver.cluster.records(odd.dead)
        }
        return Came(out, dead)


def on_a_broker(odd: Odd, servers: str, directory: Path) -> Came:
    settings = Settings(
        bootstrap_servers=servers, state_dir=str(directory), workers=0, announce_interval=0, commit_interval=0.1,
        default_partitions=1, transaction_timeout=3.0,
    )  # fmt: skip
    worker = make_worker(odd.app, Identity(odd.app.name, "one", 0), settings, prepare(odd.app, settings))
    write(servers, odd.source.name, [(case, case.encode(), NOW) for case in CASES])
    worker.start()
    try:
        until(
            lambda: any(task.committed.get((odd.source.name, 0)) == len(CASES) for task in worker.tasks.values()),
            "all cases to be committed",
            4 * SECONDS,
            each=worker.step,
        )
    finally:
        worker.abandon()
    out = [
        Put(message.key().decode(), message.partition(), message.timestamp()[1], message.headers())
        for message in messages(servers, odd.out.name)
    ]
    dead = {
        message.key().decode(): dict(message.headers())["__streams.errors.message"].decode()
        for message in messages(servers, odd.dead)
    }
    return Came(out, dead)


def messages(servers: str, topic: str) -> list[Any]:
    """All that is committed of a topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "tests", "enable.partition.eof": True})
    bounds = ends(servers, topic)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(len(bounds))])
    found: list[Any] = []
    left = {number for number, (_, end) in enumerate(bounds) if end}

    def poll() -> None:
        for message in consumer.consume(1000, 0.1):
            if message.error() is None:
                found.append(message)
            else:  # the end of a partition
                left.discard(message.partition())

    until(lambda: not left, f"the end of {topic}", each=poll)
    consumer.close()
    return found


@pytest.fixture(scope="module")
def came(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Odd, Came, Came]:
    odd = Odd(f"odd-{uuid.uuid4().hex[:8]}")
    return odd, in_memory(odd), on_a_broker(odd, bootstrap_servers, tmp_path_factory.mktemp("state"))


def test_the_same_records_are_written(came: tuple[Odd, Came, Came]) -> None:
    _, memory, broker = came
    assert sorted(memory.out, key=str) == sorted(broker.out, key=str)
    put = {one.key: one for one in broker.out}
    assert len(put) == len(broker.out) == len(CASES) - len(broker.dead)
    for how in ("returns", "sends"):
        pairs = [("a", b"1"), ("a", b"2"), ("b", None), ("c", "täxt".encode()), ("", b"")]
        assert put[f"{how} pairs"].headers == pairs
        assert put[f"{how} tuples"].headers == [("a", b"1")]
        assert put[f"{how} pairs"].timestamp == NOW
        for what, hours in (("naive", 0), ("utc", 0), ("+02:00", 2)):
            at = datetime.fromtimestamp(put[f"{how} {what}"].timestamp / 1000, UTC) + timedelta(hours=hours)
            assert at.replace(tzinfo=None) == AT.replace(microsecond=123_000)
        assert put[f"{how} ms"].timestamp == 1_600_000_000_001 and put[f"{how} 1 ms"].timestamp == 1
    assert put["sends partition 1"].partition == 1


def test_the_same_is_refused_in_the_same_words(came: tuple[Odd, Came, Came]) -> None:
    _, memory, broker = came
    assert memory.dead.keys() == broker.dead.keys()
    by_kafka = {f"sends {what}" for what in REFUSED_BY_KAFKA}
    for case in broker.dead.keys() - by_kafka:
        assert memory.dead[case] == broker.dead[case], case
    for what in HEADERS.keys() - {"pairs", "tuples"}:
        for how in ("returns", "sends"):
            assert "header" in broker.dead[f"{how} {what}"]
    for what in ("before 1970", "zero", "1970", "negative", "64 bits", "bool", "float", "text time"):
        for how in ("returns", "sends"):
            assert "time" in broker.dead[f"{how} {what}"]


@pytest.mark.parametrize("what", REFUSED_BY_KAFKA)
@pytest.mark.parametrize("where", ["memory", "broker"])
def test_a_partition_that_is_not_there_is_named(came: tuple[Odd, Came, Came], what: str, where: str) -> None:
    odd, memory, broker = came
    said = (memory if where == "memory" else broker).dead[f"sends {what}"]
    assert f"Kafka refuses a record for {odd.out.name}{REFUSED_BY_KAFKA[what]}, key 'sends {what}'" in said, said
    assert "the topic has no such partition" in said, said
