"""Each input with a backlog is read: librdkafka brings the same few for as long as they have one (librdkafka #1854)."""

from __future__ import annotations

import random
import uuid
from itertools import repeat
from pathlib import Path

import pytest
from confluent_kafka import Producer

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.making import make_worker
from support.kafka import SECONDS

PARTITIONS, EACH, BYTES = 8, 40_000, 400


@pytest.mark.more
def test_no_partition_waits_until_others_are_through(bootstrap_servers: str, tmp_path: Path) -> None:
    app = kstream.App(f"turns-{uuid.uuid4().hex[:8]}")
    topic = app.topic(f"{app.name}-in", key=bytes, value=bytes, partitions=PARTITIONS)

    def takes_time(value: bytes) -> int:
        return sum(map(sum, repeat(value, 16)))  # else all of it is read before a turn is over

    app.stream(topic).map(takes_time, value=int).group_by_key().count(name="n")
    settings = Settings(
        bootstrap_servers=bootstrap_servers,
        state_dir=str(tmp_path),
        workers=0,
        announce_interval=0,
        commit_interval=1.0,
    )
    admin = KafkaClients(bootstrap_servers, options_from(settings, app.name)).admin()
    partitions = prepare_topics(app.topology(), admin, settings)
    admin.close()
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "queue.buffering.max.kbytes": 500_000,
         "queue.buffering.max.messages": PARTITIONS * EACH + 1}
    )  # fmt: skip
    noise = random.Random(1).randbytes(1 << 20)  # it does not compress
    for n in range(EACH):
        for partition in range(PARTITIONS):
            at = (n * PARTITIONS + partition) * 7 % (len(noise) - BYTES)
            producer.produce(topic.name, noise[at : at + BYTES], b"%d" % (n % 100), partition=partition)
        producer.poll(0)
    assert producer.flush(SECONDS) == 0

    worker = make_worker(app, Identity(app.name, app.name, 0), settings, partitions)
    try:
        worker.start()
        while worker.records < PARTITIONS * EACH * 0.7:
            worker.step()
        read = sorted(task.records for task in worker.tasks.values())
        assert read[0] > 0, read
        while worker.records < PARTITIONS * EACH:
            worker.step()
        assert [task.records for task in worker.tasks.values()] == [EACH] * PARTITIONS
    finally:
        worker.close()
