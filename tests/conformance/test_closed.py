"""Clients that were closed: one of our errors, whatever is asked of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kstream.errors import KafkaUnavailable, ProducerLost
from kstream.runtime.kafka import KafkaClients
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import AdminClient, Clients, ConsumerClient, ProducerClient, TopicPartition
from support.clusters import Listener

AT = TopicPartition("t", 0)


@pytest.fixture(params=["memory", "kafka"])
def clients(request: pytest.FixtureRequest) -> Clients:
    """Without a broker: none is asked."""
    return MemoryClients(MemoryCluster()) if request.param == "memory" else KafkaClients("127.0.0.1:1")


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.subscribe(["t"], Listener()),
        lambda one: one.assign({AT: 0}),
        lambda one: one.assign({AT: -2}),
        lambda one: one.poll(10, 0.0),
        lambda one: one.pause([AT]),
        lambda one: one.resume([AT]),
        lambda one: one.seek({AT: 0}),
        lambda one: one.group_metadata(),
        lambda one: one.commit({AT: 0}, {}),
    ],
)
def test_a_closed_consumer(call: Callable[[ConsumerClient], object], clients: Clients) -> None:
    consumer = clients.consumer("g", "m")
    consumer.close()
    with pytest.raises(KafkaUnavailable, match="closed"):
        call(consumer)
    assert consumer.high_watermark(AT) is None
    consumer.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.produce("t", b"v", b"k"),
        lambda one: one.produce_watched("t", b"v", b"k", 0, print),
        lambda one: one.poll(),
        lambda one: one.flush(0.1),
        lambda one: one.init_transactions(0.1),
        lambda one: one.begin(),
        lambda one: one.send_offsets({AT: 0}, {}, None),
        lambda one: one.commit(0.1),
        lambda one: one.abort(0.1),
    ],
)
def test_a_closed_producer(call: Callable[[ProducerClient], object], clients: Clients) -> None:
    producer = clients.producer("id")
    producer.close()
    with pytest.raises(ProducerLost, match="closed"):
        call(producer)
    producer.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.topics(0.1),
        lambda one: one.topic_configs(["t"], 0.1),
        lambda one: one.delete_topics(["t"], 0.1),
        lambda one: one.committed("g", [AT]).result(5),
        lambda one: one.describe(["t"]).result(5),
        lambda one: one.end_offsets([AT]).result(5),
        lambda one: one.start_offsets([AT]).result(5),
        lambda one: one.delete_records({AT: 0}).result(5),
    ],
)
def test_a_closed_admin(call: Callable[[AdminClient], object], clients: Clients) -> None:
    admin = clients.admin()
    admin.close()
    with pytest.raises(KafkaUnavailable, match="closed"):
        call(admin)
    admin.close()
