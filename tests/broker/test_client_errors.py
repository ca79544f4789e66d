"""What librdkafka raises, call by call, comes as one of kstream's errors: fenced clients, refused records."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from kstream.errors import AbortRequired, KStreamError, RecordRefused, TransactionError
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.kafka.producer import KafkaProducer
from kstream.types import NewTopic, TopicPartition


@pytest.fixture
def clients(bootstrap_servers: str) -> KafkaClients:
    return KafkaClients(bootstrap_servers, KafkaOptions(transaction_timeout=60.0))


@pytest.fixture
def topic(clients: KafkaClients) -> str:
    name = f"errors-{uuid.uuid4().hex[:8]}"
    admin = clients.admin()
    admin.create_topics([NewTopic(name, 2)], 60)
    admin.close()
    return name


@pytest.fixture
def producer(clients: KafkaClients, topic: str) -> Iterator[KafkaProducer]:
    """In a transaction, in which it has delivered a record."""
    producer = clients.producer(f"tx-{topic}")
    producer.init_transactions(60)
    producer.begin()
    producer.produce(topic, b"first", b"k", 0)
    producer.flush(60)
    yield producer
    producer.close()


def produce(producer: KafkaProducer, topic: str, value: bytes, partition: int = 0) -> None:
    """As the operators do."""
    try:
        producer.produce(topic, value, b"some key", partition)
    except BufferError:
        raise
    except Exception as error:
        raise producer.meaning(error, topic, value, b"some key", partition) from error


def test_what_is_no_record_is_refused(producer: KafkaProducer, topic: str) -> None:
    for headers, timestamp in (([("name", 5)], 0), ([5], 0), (None, 1 << 70)):
        try:
            producer.produce(topic, b"v", b"k", 0, None, None, timestamp, headers)  # type: ignore[arg-type]
        except Exception as raised:
            error: KStreamError = producer.meaning(raised, topic, b"v", b"k", 0)
            assert isinstance(error, RecordRefused) and topic in str(error)
        else:
            raise AssertionError("it was taken")


def test_records_without_a_transaction_ask_for_an_abort(clients: KafkaClients, topic: str) -> None:
    producer = clients.producer(f"idle-{topic}")
    producer.init_transactions(60)
    with pytest.raises(TransactionError, match="_STATE"):
        produce(producer, topic, b"v")
    producer.close()


def test_a_refused_record_is_the_reason_wherever_the_transaction_fails_next(clients: KafkaClients) -> None:
    """librdkafka says no more than "erroneous state" where it is asked for something after the refusal."""
    name = f"compacted-{uuid.uuid4().hex[:8]}"
    admin = clients.admin()
    admin.create_topics([NewTopic(name, 1, config={"cleanup.policy": "compact"})], 60)
    admin.close()
    consumer, producer = clients.consumer(name, "member"), clients.producer(name)
    producer.init_transactions(60)
    producer.begin()
    producer.produce(name, b"v", None, 0)
    with pytest.raises(AbortRequired) as flushed:
        producer.flush(60)
    assert flushed.value.refused
    with pytest.raises(AbortRequired, match="INVALID_RECORD") as offsets:
        producer.send_offsets({TopicPartition(name, 0): 1}, {}, consumer.group_metadata())
    assert offsets.value.refused
    producer.close()
    consumer.close()
