"""What librdkafka raises, call by call, comes as one of kstream's errors: fenced clients, refused records."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from kstream.errors import InstanceFenced, KStreamError, ProducerLost, RecordRefused, TransactionError
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.kafka.producer import KafkaProducer
from kstream.types import NewTopic


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


CALLS: dict[str, Callable[[KafkaProducer, str], None]] = {
    "poll": lambda one, _: one.poll(1.0),
    "flush": lambda one, _: one.flush(5.0),
    "produce": lambda one, topic: produce(one, topic, b"v"),
    "produce_watched": lambda one, topic: one.produce_watched(topic, b"v", b"k", 0, print),
    "commit": lambda one, _: one.commit(60),
    "abort": lambda one, _: one.abort(60),
    "begin": lambda one, _: one.begin(),
}


@pytest.mark.parametrize("first", ["poll", "flush"])
def test_a_fenced_producer_says_so_whatever_it_is_asked(
    clients: KafkaClients, producer: KafkaProducer, topic: str, first: str
) -> None:
    successor = clients.producer(f"tx-{topic}")
    successor.init_transactions(60)
    producer.produce(topic, b"old", b"k", 1)  # a partition that is not in the transaction yet: the broker is asked
    deadline = time.monotonic() + 60
    with pytest.raises(InstanceFenced, match=f"tx-{topic}"):
        while time.monotonic() < deadline:
            CALLS[first](producer, topic)
    for name, call in CALLS.items():
        if name not in ("poll", "flush"):  # they have nothing more to say
            with pytest.raises(TransactionError) as caught:
                call(producer, topic)
            assert type(caught.value) in (InstanceFenced, ProducerLost), name
            assert isinstance(caught.value, InstanceFenced), f"{name}: {caught.value}"
    successor.close()


def test_a_record_that_is_too_large_is_named(producer: KafkaProducer, topic: str) -> None:
    with pytest.raises(RecordRefused, match=r"2,000,0\d\d bytes") as caught:
        produce(producer, topic, b"x" * 2_000_000)
    assert f"{topic}[0]" in str(caught.value) and "some key" in str(caught.value)
    with pytest.raises(RecordRefused, match=r"2,000,0\d\d bytes"):
        producer.produce_watched(topic, b"x" * 2_000_000, b"k", 0, print)
    producer.commit(60)


@pytest.mark.parametrize("partition", [9, -2])
def test_a_partition_that_is_not_there_is_named(producer: KafkaProducer, topic: str, partition: int) -> None:
    with pytest.raises(RecordRefused) as caught:
        produce(producer, topic, b"x", partition)
    assert f"{topic}[{partition}]" in str(caught.value) and "some key" in str(caught.value)
    producer.commit(60)


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
