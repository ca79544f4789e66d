"""Records that Kafka does not take: which, when it is told, and what becomes of the transaction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kstream.errors import AbortRequired, KStreamError, ProducerLost, RecordRefused, TopicError
from kstream.types import BEGINNING, Clients, ConsumerClient, ProducerClient, TopicPartition
from support.clusters import SECONDS, Cluster, Listener, committed, gather, joined, make_topic, name, quiet

HOUR = 3_600_000


def now() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Bad:
    """A record that is refused, and why."""

    code: str
    config: dict[str, str] = field(default_factory=dict)
    key: bytes | None = b"k"
    size: int = 10
    offset_from_now: int | None = None
    partition: int = 0
    denied: bool = False
    by_client: bool = False
    """The broker never sees it: told by `produce`, or by a report where the client does not know the topic yet."""

    @property
    def timestamp(self) -> int:
        return 0 if self.offset_from_now is None else now() + self.offset_from_now

    def topic(self, cluster: Cluster) -> str:
        topic = make_topic(cluster.clients, 1, **self.config)
        if self.denied:
            cluster.deny(topic, "write")
        return topic


BAD = {
    "no key": Bad("INVALID_RECORD", {"cleanup_policy": "compact"}, key=None),
    "no key, compact and delete": Bad("INVALID_RECORD", {"cleanup_policy": "compact,delete"}, key=None),
    "too large": Bad("MSG_SIZE_TOO_LARGE", {"max_message_bytes": "1000"}, size=5000),
    "of tomorrow": Bad("INVALID_TIMESTAMP", offset_from_now=24 * HOUR),
    "of yesterday": Bad(
        "INVALID_TIMESTAMP", {"message_timestamp_before_max_ms": str(HOUR)}, offset_from_now=-24 * HOUR
    ),
    "not allowed": Bad("TOPIC_AUTHORIZATION_FAILED", denied=True),
    "partition 9": Bad("_UNKNOWN_PARTITION", partition=9, by_client=True),
    "partition -2": Bad("_UNKNOWN_PARTITION", partition=-2, by_client=True),
}


@pytest.fixture(params=BAD.values(), ids=BAD.keys())
def bad(request: pytest.FixtureRequest) -> Bad:
    return request.param  # type: ignore[no-any-return]


class Reports:
    """What the reports of watched records said."""

    def __init__(self) -> None:
        self.offsets: list[int | None] = []
        self.refused: list[RecordRefused] = []

    def __call__(self, offset: int | None, refused: RecordRefused | None) -> None:
        if refused is None:
            self.offsets.append(offset)
        else:
            assert offset is None
            self.refused.append(refused)


def produce(
    producer: ProducerClient,
    topic: str,
    value: bytes,
    key: bytes | None = b"k",
    partition: int = 0,
    timestamp: int = 0,
    headers: Any = None,
) -> KStreamError | None:
    """Produces a record as the runtime does. What that says at once is returned."""
    arguments = (topic, value, key, partition, None, None, timestamp)
    try:
        if headers is None:
            producer.produce(*arguments)
        else:
            producer.produce(*arguments, headers)
    except KStreamError as error:
        return error
    except Exception as error:
        return producer.meaning(error, topic, value, key, partition)
    return None


def send(producer: ProducerClient, topic: str, bad: Bad) -> RecordRefused | None:
    said = produce(producer, topic, os.urandom(bad.size), bad.key, bad.partition, bad.timestamp)
    assert said is None or isinstance(said, RecordRefused)
    return said


def send_watched(producer: ProducerClient, topic: str, bad: Bad, reports: Reports) -> None:
    try:
        producer.produce_watched(topic, os.urandom(bad.size), bad.key, bad.partition, reports, bad.timestamp)
    except RecordRefused as error:
        reports.refused.append(error)


def check(refused: RecordRefused, topic: str, bad: Bad) -> None:
    assert (refused.topic, refused.partition, refused.code) == (topic, bad.partition, bad.code)
    assert (refused.key, refused.size) == (bad.key, bad.size + len(bad.key or b""))
    assert f" {topic}[{bad.partition}]," in str(refused) and str(refused).endswith(f"({bad.code})")


def after_an_abort(producer: ProducerClient, work: Callable[[], None]) -> None:
    """Does the work in a transaction. It may come back once: librdkafka counts a batch that was refused as sent."""
    try:
        producer.begin()
        work()
        producer.commit(SECONDS)
    except AbortRequired:
        producer.abort(SECONDS)
        producer.begin()
        work()
        producer.commit(SECONDS)


def test_the_report_of_a_watched_record_says_why_and_the_producer_stays_good(
    cluster: Cluster, producer: ProducerClient, bad: Bad
) -> None:
    topic, other, reports, others = bad.topic(cluster), make_topic(cluster.clients), Reports(), Reports()
    producer.begin()
    producer.produce_watched(other, b"good", b"k", 0, others)
    producer.flush(SECONDS)
    send_watched(producer, topic, bad, reports)
    try:
        producer.flush(SECONDS)
        assert bad.by_client
    except AbortRequired as error:
        assert error.refused
        assert bad.code in str(error)
    assert (reports.offsets, others.refused, others.offsets) == ([], [], [0])
    if bad.denied:
        assert reports.refused == []  # the client cannot take the partition into the transaction, and sends nothing
    else:
        check(reports.refused[0], topic, bad)
        assert len(reports.refused) == 1
    producer.abort(SECONDS)
    after_an_abort(producer, lambda: producer.produce(other, b"after", b"k", 0))
    assert committed(cluster.clients, other).values() == [b"after"]
    if not bad.denied:
        after_an_abort(producer, lambda: producer.produce(topic, b"after", b"k", 0))
        assert committed(cluster.clients, topic).values() == [b"after"]


def test_a_commit_says_that_records_were_refused_where_none_was_watched(
    cluster: Cluster, producer: ProducerClient, bad: Bad
) -> None:
    topic, other = bad.topic(cluster), make_topic(cluster.clients)
    producer.begin()
    producer.produce(other, b"good", b"k", 0)
    if (refused := send(producer, topic, bad)) is not None:
        check(refused, topic, bad)
    else:
        with pytest.raises(AbortRequired) as caught:
            producer.commit(SECONDS)
        assert caught.value.refused
    try:
        producer.abort(SECONDS)
    except ProducerLost:
        assert bad.denied  # nothing of the transaction ever came to the broker, which knows of none
    assert committed(cluster.clients, other).values() == []


def test_without_a_transaction_the_flush_says_it(cluster: Cluster, bad: Bad) -> None:
    topic, other, reports = bad.topic(cluster), make_topic(cluster.clients), Reports()
    for watched in (False, True):
        producer = cluster.clients.producer(None)
        producer.produce(other, b"good", b"k", 0)
        if watched:
            send_watched(producer, topic, bad, reports)
        elif (refused := send(producer, topic, bad)) is not None:
            check(refused, topic, bad)
            producer.flush(SECONDS)
            continue
        try:
            producer.flush(SECONDS)
            assert bad.by_client
        except ProducerLost as error:
            assert error.refused
            assert topic in str(error)
        producer.close()
    check(reports.refused[0], topic, bad)
    assert committed(cluster.clients, other).values() == [b"good", b"good"]


@pytest.mark.parametrize("transactional", [True, False])
def test_a_whole_batch_is_refused_and_what_was_flushed_before_is_not(
    clients: Clients, producer: ProducerClient, transactional: bool
) -> None:
    topic, before, batch = make_topic(clients, 2, cleanup_policy="compact"), Reports(), Reports()
    if transactional:
        producer.begin()
    else:
        producer = clients.producer(None)
    producer.produce_watched(topic, b"first", b"k", 0, before)
    producer.produce_watched(topic, b"of the other partition", b"k", 1, before)
    producer.flush(SECONDS)
    for key in (b"k", None, b"k"):
        producer.produce_watched(topic, b"of the batch", key, 0, batch)
    with pytest.raises((AbortRequired, ProducerLost)) as caught:
        producer.flush(SECONDS)
    assert caught.value.refused
    assert (before.offsets, before.refused) == ([0, 0], [])
    assert [each.code for each in batch.refused] == ["INVALID_RECORD"] * 3
    assert batch.offsets == []
    if transactional:
        producer.abort(SECONDS)
    assert committed(clients, topic).values() == ([] if transactional else [b"first"])


def test_after_a_refusal_the_transaction_takes_nothing_until_it_is_aborted(
    clients: Clients, producer: ProducerClient
) -> None:
    topic, other = make_topic(clients, 1, cleanup_policy="compact"), make_topic(clients)
    producer.begin()
    producer.produce(topic, b"bad", None, 0)
    with pytest.raises(AbortRequired, match="INVALID_RECORD") as told:
        producer.flush(SECONDS)
    assert told.value.refused
    for _ in range(2):
        meant = produce(producer, other, b"more")
        assert isinstance(meant, AbortRequired) and meant.refused
        with pytest.raises(AbortRequired) as watched:
            producer.produce_watched(other, b"more", b"k", 0, Reports())
        assert watched.value.refused
    with pytest.raises(AbortRequired) as ended:
        producer.commit(SECONDS)
    assert ended.value.refused
    producer.abort(SECONDS)
    after_an_abort(producer, lambda: producer.produce(other, b"more", b"k", 0))
    assert committed(clients, other).values() == [b"more"]


def test_the_transaction_after_a_refusal_is_aborted_once_more_if_it_writes_to_the_same_partition(
    clients: Clients, producer: ProducerClient
) -> None:
    topic, reports = make_topic(clients, 2, cleanup_policy="compact"), Reports()
    producer.begin()
    producer.produce(topic, b"bad", None, 1)
    with pytest.raises(AbortRequired):
        producer.commit(SECONDS)
    producer.abort(SECONDS)
    producer.begin()
    producer.produce(topic, b"elsewhere", b"k", 0)
    producer.commit(SECONDS)
    producer.begin()
    producer.produce_watched(topic, b"good", b"k", 1, reports)
    with pytest.raises(AbortRequired, match="OUT_OF_ORDER_SEQUENCE_NUMBER") as caught:
        producer.commit(SECONDS)
    assert not caught.value.refused
    producer.abort(SECONDS)
    assert (reports.offsets, reports.refused) == ([], [])
    producer.begin()
    producer.produce(topic, b"good", b"k", 1)
    producer.commit(SECONDS)
    assert committed(clients, topic, 1).values() == [b"good"]


def test_what_the_client_itself_finds_too_large_leaves_the_transaction_good(
    clients: Clients, producer: ProducerClient, topic: str
) -> None:
    reports = Reports()
    producer.begin()
    producer.produce(topic, b"x" * 999_000, b"k", 0)
    meant = produce(producer, topic, b"x" * 1_000_000)
    assert isinstance(meant, RecordRefused) and meant.code == "MSG_SIZE_TOO_LARGE"
    with pytest.raises(RecordRefused, match="MSG_SIZE_TOO_LARGE"):
        producer.produce_watched(topic, b"x" * 1_000_000, b"k", 0, reports)
    producer.commit(SECONDS)
    assert (reports.offsets, reports.refused) == ([], [])
    assert len(committed(clients, topic).values()) == 1


@pytest.mark.parametrize(
    "headers",
    [[("a", 1)], [("a", {})], [("a", bytearray(b"x"))], [("a", b"v", "x")], (("a", b"v"),), [["a", b"v"]]],
    ids=str,
)
def test_headers_that_are_none(clients: Clients, producer: ProducerClient, topic: str, headers: Any) -> None:
    producer.begin()
    meant = produce(producer, topic, b"v", headers=headers)
    assert isinstance(meant, RecordRefused) and meant.code == "TypeError"
    with pytest.raises(RecordRefused, match="TypeError"):
        producer.produce_watched(topic, b"v", b"k", 0, Reports(), 0, headers)
    producer.commit(SECONDS)


def test_small_records_in_a_batch_that_is_too_large(clients: Clients, producer: ProducerClient) -> None:
    """The limit of a topic is that of a batch, and librdkafka does not divide one."""
    topic, reports = make_topic(clients, 1, max_message_bytes="1000"), Reports()
    values = [os.urandom(50) for _ in range(100)]
    producer.begin()
    for value in values:
        producer.produce_watched(topic, value, b"k", 0, reports)
    with pytest.raises(AbortRequired):
        producer.flush(SECONDS)
    assert {each.code for each in reports.refused} == {"MSG_SIZE_TOO_LARGE"}
    assert len(reports.refused) == 100
    producer.abort(SECONDS)

    def one_by_one() -> None:
        for value in values[:10]:
            producer.produce_watched(topic, value, b"k", 0, Reports())
            producer.flush(SECONDS)

    after_an_abort(producer, one_by_one)
    assert committed(clients, topic).values() == values[:10]


def test_the_size_that_counts_for_a_topic_is_the_compressed_one(clients: Clients, producer: ProducerClient) -> None:
    topic = make_topic(clients, 1, max_message_bytes="1000")
    producer.begin()
    producer.produce(topic, b"x" * 5000, b"k", 0)
    producer.commit(SECONDS)
    assert committed(clients, topic).values() == [b"x" * 5000]


def test_times(clients: Clients, producer: ProducerClient) -> None:
    """0 is now: a record of the first millisecond of 1970 cannot be written."""
    topic = make_topic(clients)
    given = [0, 1, -1, now() + HOUR // 2]
    producer.begin()
    for timestamp in given:
        producer.produce(topic, b"v", b"k", 0, None, None, timestamp)
    producer.commit(SECONDS)
    times = [each for fetch in committed(clients, topic).fetches for each in fetch.timestamps()]
    assert abs(times[0] - now()) < 60_000
    assert times[1:] == given[1:]


def test_a_topic_that_stamps_records_itself_refuses_no_time(clients: Clients, producer: ProducerClient) -> None:
    topic = make_topic(clients, 1, message_timestamp_type="LogAppendTime")
    producer.begin()
    producer.produce(topic, b"v", b"k", 0, None, None, now() + 24 * HOUR)
    producer.commit(SECONDS)
    (fetch,) = committed(clients, topic).fetches
    assert abs(fetch.first_timestamp - now()) < 60_000


def test_a_topic_that_may_not_be_read(cluster: Cluster, reader: ConsumerClient, topic: str) -> None:
    cluster.deny(topic, "read")
    reader.assign({TopicPartition(topic, 0): BEGINNING})
    with pytest.raises(TopicError, match=rf"{topic}: TOPIC_AUTHORIZATION_FAILED") as caught:
        gather(reader, lambda _: False)
    assert caught.value.topics == (topic,)


def test_a_topic_that_may_not_be_read_is_told_of_each_time_it_is_resumed(
    cluster: Cluster, clients: Clients, topic: str
) -> None:
    at = TopicPartition(topic, 0)
    listener = Listener()
    consumer = joined(clients, name("group"), [topic], listener)
    consumer.resume([at])
    quiet(consumer, 0.5)
    cluster.deny(topic, "read")
    for _ in range(3):
        with pytest.raises(TopicError, match=rf"{topic}: TOPIC_AUTHORIZATION_FAILED"):
            gather(consumer, lambda _: False)
        consumer.pause([at])
        consumer.seek({at: 0})
        consumer.resume([at])
    consumer.close()
