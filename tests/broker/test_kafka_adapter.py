"""What only the adapters of `kstream.runtime.kafka` promise, held against a real broker: settings, librdkafka's ways.
What every Kafka client promises is in tests/conformance."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from kstream.errors import (
    ConfigError,
    InstanceFenced,
    KafkaUnavailable,
    ProducerLost,
    TopicError,
)
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.kafka import positions as positions_module
from kstream.runtime.kafka.admin import KafkaAdmin
from kstream.runtime.worker.transaction import Transaction
from kstream.types import (
    AdminClient,
    Clients,
    ConsumerClient,
    ProducerClient,
    TopicPartition,
)
from support.clusters import AT_MOST, SESSION, Listener, fill, gather, joined, make_topic, name, quiet

UNREACHABLE = "127.0.0.1:1"


@pytest.fixture
def clients(bootstrap_servers: str) -> KafkaClients:
    # long: a starved member does not lose its partitions
    return KafkaClients(bootstrap_servers, KafkaOptions(session_timeout=SESSION, transaction_timeout=60.0))


@pytest.fixture
def admin(clients: KafkaClients) -> Iterator[KafkaAdmin]:
    admin = clients.admin()
    yield admin
    admin.close()


@pytest.fixture
def topic(clients: KafkaClients) -> str:
    return make_topic(clients, 2)


@pytest.fixture(scope="module", autouse=True)
def old(bootstrap_servers: str) -> Iterator[tuple[KafkaClients, ProducerClient, str]]:
    """A producer with a transaction that the broker will end, and where it writes. Brokers look for such every ten
    seconds: it is begun before the other tests and looked at by the last."""
    # time enough for the record to be written before
    clients = KafkaClients(bootstrap_servers, KafkaOptions(transaction_timeout=3.0))
    topic = make_topic(clients)
    producer = clients.producer(name("tx"))
    producer.init_transactions(60)
    producer.begin()
    producer.produce(topic, b"old", b"k", 0)
    producer.flush(60)
    yield clients, producer, topic
    producer.close()


# ---- protocols, configuration


def test_the_adapters_are_what_the_protocols_say(clients: KafkaClients, admin: KafkaAdmin) -> None:
    def checked_by_mypy(one: Clients, two: ConsumerClient, three: ProducerClient, four: AdminClient) -> None: ...

    reader, producer = clients.reader(), clients.producer(None)
    checked_by_mypy(clients, reader, producer, admin)
    reader.close()
    producer.close()


def test_raw_settings_reach_their_client_and_ours_cannot_be_set(bootstrap_servers: str) -> None:
    options = KafkaOptions(raw={"consumer.fetch.wait.max.ms": "7", "log_level": "3", "producer.linger.ms": "9"})
    assert options.consumer(bootstrap_servers, "g", "m")["fetch.wait.max.ms"] == "7"
    assert "fetch.wait.max.ms" not in options.producer(bootstrap_servers, None)
    assert options.producer(bootstrap_servers, None)["linger.ms"] == "9"
    assert options.admin(bootstrap_servers)["log_level"] == "3"
    for setting in ("isolation.level", "consumer.enable.auto.commit", "producer.partitioner"):
        with pytest.raises(ConfigError, match=setting):
            KafkaOptions(raw={setting: "x"})
    with pytest.raises(ConfigError, match=r"no\.such\.setting"):
        KafkaClients(bootstrap_servers, KafkaOptions(raw={"consumer.no.such.setting": "1"})).reader()


def test_what_is_resumed_is_read_at_once(clients: KafkaClients, topic: str) -> None:
    """After these rests librdkafka alone takes 0.5 to 0.9 s."""
    zero = TopicPartition(topic, 0)
    fill(clients, topic, 10)
    waited = []
    for number in range(8):
        reader = clients.reader()
        reader.assign({zero: 0})
        reader.pause([zero])
        quiet(reader, 0.2 + number / 20)
        began = time.monotonic()
        reader.resume([zero])
        gather(reader, lambda found: found.fetches)
        waited.append(time.monotonic() - began)
        reader.close()
    assert sorted(waited)[2] < 0.4, waited


# ---- groups


@pytest.mark.parametrize("reset", ["earliest", "latest", "error"])
def test_a_group_whose_position_is_not_in_the_log(
    bootstrap_servers: str, admin: KafkaAdmin, topic: str, reset: str
) -> None:
    clients = KafkaClients(bootstrap_servers, KafkaOptions(auto_offset_reset=reset))  # type: ignore[arg-type]
    fill(clients, topic, 10)
    at = TopicPartition(topic, 0)
    admin.delete_records({at: 4}).result(60)
    listener = Listener({at: 1})
    consumer = clients.consumer(name("group"), name("member"))
    consumer.subscribe([topic], listener)
    if reset == "error":
        with pytest.raises(TopicError, match="auto_offset_reset"):
            gather(consumer, lambda _: listener.owned)
            consumer.resume([at])
            gather(consumer, lambda _: False)
    else:
        gather(consumer, lambda _: listener.owned)
        consumer.resume([at])
        got = gather(consumer, lambda got: got.ends)
        assert got.offsets(at) == (list(range(4, 10)) if reset == "earliest" else [])
    consumer.close()


def test_a_purged_partition_whose_start_is_not_known_yet_is_taken_without_a_warning(
    clients: KafkaClients, admin: KafkaAdmin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime says 0, restores, and seeks. Without the question for the log's start, librdkafka warned of an offset
    reset in two of five of these rounds."""
    # after 1 s without an answer a warning is taken into the bargain; on a busy machine it takes that long now and then
    monkeypatch.setattr(positions_module, "START_SECONDS", 30.0)
    topic = make_topic(clients, 32)
    partitions = [TopicPartition(topic, partition) for partition in range(32)]
    producer = clients.producer(None)
    for at in partitions * 5:
        producer.produce(topic, b"v", b"k", at.partition)
    producer.flush(60)
    producer.close()
    admin.delete_records(dict.fromkeys(partitions, 3)).result(60)
    with caplog.at_level(logging.DEBUG, "kstream.kafka"):
        for _ in range(6):
            consumer = joined(clients, name("group"), [topic], Listener(dict.fromkeys(partitions, 0)))
            assert not quiet(consumer, 0.2).fetches
            consumer.seek(dict.fromkeys(partitions, 3))
            consumer.resume(partitions)
            got = gather(consumer, lambda got: len(got.ends) == 32)
            assert all(got.offsets(at) == [3, 4] for at in partitions)
            consumer.close()
    assert not [record.getMessage() for record in caplog.records if "offset reset" in record.getMessage()]


# ---- transactions


def test_a_transaction_in_which_nothing_was_sent_is_no_long_one(
    bootstrap_servers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has not heard of it, so it cannot have timed out: whoever took the identity is another process."""
    later = [0.0]
    shifted = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0], sleep=time.sleep)
    monkeypatch.setattr("kstream.runtime.kafka.producer.time", shifted)
    clients, member = KafkaClients(bootstrap_servers, KafkaOptions(transaction_timeout=20.0)), name("tx")
    first, second = (Transaction(clients, member, timeout=20.0) for _ in range(2))
    first.start()
    first.begin()  # before it, too, a transaction that was as long: it is over
    first.produce(topic, b"v", b"k", 0)
    first.commit()
    first.begin()
    later[0] += 19.0
    second.start()
    first.produce(topic, b"old", b"k", 0)
    with pytest.raises(InstanceFenced, match="another process produces as"):
        first.commit()
    for transaction in (first, second):
        transaction.discard()


def test_a_full_queue_is_a_buffer_error(bootstrap_servers: str, topic: str) -> None:
    options = KafkaOptions(raw={"producer.queue.buffering.max.messages": "10"}, linger=1.0)
    producer = KafkaClients(bootstrap_servers, options).producer(None)
    with pytest.raises(BufferError):
        for _ in range(1000):
            producer.produce(topic, b"v", b"k")
    producer.flush(60)
    producer.produce(topic, b"v", b"k")
    producer.flush(60)
    producer.close()


# ---- no broker


def test_an_unreachable_broker_is_named_in_time(caplog: pytest.LogCaptureFixture) -> None:
    clients = KafkaClients(UNREACHABLE)
    admin = clients.admin()
    began = time.monotonic()
    with pytest.raises(KafkaUnavailable, match=UNREACHABLE):
        admin.topics(1.0)
    assert time.monotonic() - began < AT_MOST
    admin.close()

    producer = clients.producer("tx")
    began = time.monotonic()
    with pytest.raises(ProducerLost, match=r"init_transactions took longer than 1 s"):
        producer.init_transactions(1.0)
    assert time.monotonic() - began < AT_MOST
    producer.close()

    plain = clients.producer(None)
    plain.produce("t", b"v", b"k")
    with pytest.raises(ProducerLost, match="1 records"):
        plain.flush(0.5)
    began = time.monotonic()
    plain.close()
    del plain
    assert time.monotonic() - began < AT_MOST

    consumer = clients.consumer("g", "m")
    consumer.subscribe(["t"], Listener())
    with caplog.at_level(logging.WARNING, "kstream.kafka"):
        gather(consumer, lambda _: any("127.0.0.1:1" in record.getMessage() for record in caplog.records))
        assert not quiet(consumer, 1.5).fetches
    began = time.monotonic()
    consumer.close()
    assert time.monotonic() - began < AT_MOST
    ours = [record for record in caplog.records if record.getMessage().startswith("consumer m: _TRANSPORT")]
    assert len(ours) <= 1


def test_the_brokers_own_time_out_is_not_taken_for_another_process(
    old: tuple[KafkaClients, ProducerClient, str],
) -> None:
    clients, producer, topic = old
    reader = clients.reader()
    at = TopicPartition(topic, 0)
    reader.assign({at: 0})
    gather(reader, lambda got: got.ends.get(at, 0) >= 2)
    with pytest.raises(ProducerLost, match="open for"):
        producer.commit(60)
    reader.close()
