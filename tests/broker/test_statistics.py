"""librdkafka's statistics on a real broker: the metrics say what was sent and received."""

from __future__ import annotations

import time
import uuid

import pytest

from kstream.observe.catalogue import CATALOGUE
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.types import BEGINNING, NewTopic, TopicPartition

SECONDS = 60.0


@pytest.fixture
def clients(bootstrap_servers: str) -> KafkaClients:
    return KafkaClients(bootstrap_servers, KafkaOptions(statistics_interval=0.1))


def values(clients: KafkaClients) -> dict[tuple[str, ...], float]:
    series = clients.statistics.collect()
    assert all(len(CATALOGUE[one.name].labels) == len(one.labels) for one in series)
    return {(one.name, *one.labels): one.value for one in series}


def test_bytes_requests_and_queues_of_real_clients(clients: KafkaClients) -> None:
    topic = f"statistics-{uuid.uuid4().hex[:8]}"
    admin = clients.admin()
    admin.create_topics([NewTopic(topic, 4)], SECONDS)
    sent = 0
    for life in range(2):  # the second producer counts on where the first one ended
        producer = clients.producer(f"{topic}-p")
        producer.init_transactions(SECONDS)
        producer.begin()
        for number in range(500):
            producer.produce(topic, b"v" * 10, b"k" * 5, number % 4)
            sent += 15
        producer.commit(SECONDS)
        deadline = time.monotonic() + SECONDS
        while values(clients).get(("produced_bytes_total", topic)) != sent:
            assert time.monotonic() < deadline, values(clients)
            producer.poll(0.05)
        producer.close()
        assert values(clients)["kafka_requests_total", "producer"] > 2 * (life + 1)

    reader = clients.reader()
    reader.assign({TopicPartition(topic, partition): BEGINNING for partition in range(4)})
    got = 0
    deadline = time.monotonic() + SECONDS
    while got < 1000 or ("kafka_broker_rtt_seconds", "reader") not in values(clients):
        assert time.monotonic() < deadline, values(clients)
        got += sum(map(len, reader.poll(2000, 0.1).fetches))
    found = values(clients)
    assert got == 1000
    assert 0 < found["kafka_broker_rtt_seconds", "reader"] < SECONDS
    assert found["kafka_throttle_seconds", "reader"] == 0.0
    assert found["kafka_request_errors_total", "reader"] == 0.0
    assert ("consumed_bytes_total", topic) not in found  # of the group's consumers only
    reader.close()
    admin.close()


def test_the_bytes_a_group_consumes_are_keys_and_values(clients: KafkaClients) -> None:
    topic = f"statistics-{uuid.uuid4().hex[:8]}"
    admin = clients.admin()
    admin.create_topics([NewTopic(topic, 2)], SECONDS)
    producer = clients.producer(None)
    for number in range(300):
        producer.produce(topic, b"v" * 7, b"k" * 3, number % 2, None, None, 0, [("header", b"not counted")])
    producer.flush(SECONDS)

    class FromTheStart:
        def assigned(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
            self.partitions = partitions
            return dict.fromkeys(partitions, 0)

        def revoked(self, partitions: list[TopicPartition]) -> None: ...
        def lost(self, partitions: list[TopicPartition]) -> None: ...

    listener = FromTheStart()
    consumer = clients.consumer(f"{topic}-group", f"{topic}-member")
    consumer.subscribe([topic], listener)  # type: ignore[arg-type]
    deadline = time.monotonic() + SECONDS
    resumed = False
    while values(clients).get(("consumed_bytes_total", topic), 0.0) < 3000 or (
        "produced_bytes_total",
        topic,
    ) not in values(clients):
        assert time.monotonic() < deadline, values(clients)
        consumer.poll(2000, 0.1)
        producer.flush(SECONDS)  # the producer tells its own when it is its time, and is asked
        if not resumed and getattr(listener, "partitions", None):
            consumer.resume(listener.partitions)
            resumed = True
    found = values(clients)
    # what an assignment's first fetch brought before it was paused is fetched again, and counted again
    assert found["consumed_bytes_total", topic] <= 6000 and found["consumed_bytes_total", topic] % 10 == 0
    assert found["produced_bytes_total", topic] <= 3000
    consumer.close()
    producer.close()
    admin.close()
