"""Topics, written and read with plain confluent-kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

SECONDS = 60.0
"""How long a broker may take for an answer: milliseconds, where the machine has time."""


class Row(NamedTuple):
    """One record. `timestamp` is in ms since the epoch."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Reader:
    """Reads whole topics, on and on: `rows` has what came so far, by topic, each partition in its order."""

    def __init__(self, servers: str, topics: Sequence[str], isolation: str = "read_committed") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "tests",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
            }
        )
        # each asked for by its name: the broker of a session has thousands of them
        found = {topic: self._consumer.list_topics(topic, timeout=SECONDS).topics[topic] for topic in topics}
        assert all(one.partitions for one in found.values()), {name: one.error for name, one in found.items()}
        self.partitions = [TopicPartition(topic, p, 0) for topic in topics for p in found[topic].partitions]
        self.rows: dict[str, list[Row]] = {topic: [] for topic in topics}
        self._at_end: set[tuple[str, int]] = set()
        self._consumer.assign(self.partitions)

    def poll(self, timeout: float = 0.05) -> None:
        """Takes what is there, waiting `timeout` seconds at most for the first record."""
        first = self._consumer.poll(timeout)
        for message in [] if first is None else [first, *self._consumer.consume(10_000, 0)]:
            at = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                self._at_end.discard(at)
                self.rows[at[0]].append(
                    Row(
                        at[1],
                        message.offset(),
                        message.key(),
                        message.value(),
                        message.timestamp()[1],
                        tuple(message.headers() or ()),
                    )
                )
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add(at)

    @property
    def at_end(self) -> bool:
        return len(self._at_end) == len(self.partitions)

    def close(self) -> None:
        self._consumer.close()


def read(servers: str, topics: Sequence[str], isolation: str = "read_committed") -> dict[str, list[Row]]:
    """All records of these topics, to their ends as of now."""
    from support.running import until

    reader = Reader(servers, topics, isolation)
    until(lambda: reader.at_end, "the ends of " + ", ".join(topics), each=reader.poll)
    reader.close()
    return reader.rows


def writer(servers: str) -> Producer:
    """Partitions as Java clients do."""
    return Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", "linger.ms": 5})


def write(
    servers: str, topic: str, records: Iterable[tuple[str, bytes | None, int]], producer: Producer | None = None
) -> None:
    """Writes (key, value, timestamp). Who writes again and again keeps a `writer`: a new one takes longer than that."""
    producer = writer(servers) if producer is None else producer
    for key, value, timestamp in records:
        producer.produce(topic, value, key.encode(), timestamp=timestamp)
        producer.poll(0)
    assert producer.flush(SECONDS) == 0


def write_to(servers: str, topic: str, partition: int, values: Iterable[bytes]) -> None:
    """Writes values, the partition for a key, up to 100 MB each, which is little in the topic if they are all alike."""
    config = {"bootstrap.servers": servers, "compression.type": "gzip", "message.max.bytes": 100_000_000}
    producer = Producer({**config, "linger.ms": 5})
    for value in values:
        producer.produce(topic, value, b"%d" % partition, partition)
    assert producer.flush(SECONDS) == 0


def write_bomb(servers: str, topic: str, partition: int, compression: str, size: int) -> None:
    """One record of so many zeros. On the wire, and for the topic's limit, it is a thousandth of that or less."""
    largest = 1_000_000_000  # that librdkafka knows
    config = {"bootstrap.servers": servers, "compression.type": compression, "message.max.bytes": largest}
    producer = Producer({**config, "linger.ms": 0})
    producer.produce(topic, bytes(size), b"%d" % partition, partition)
    assert producer.flush(SECONDS) == 0


def create(servers: str, topic: str, partitions: int, **config: str) -> None:
    settings = {name.replace("_", "."): value for name, value in config.items()}
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, partitions, config=settings)])[topic].result(SECONDS)


def ends(servers: str, topic: str) -> list[tuple[int, int]]:
    """(start, end) of each partition, read uncommitted."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "tests", "isolation.level": "read_uncommitted"})
    count = len(consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
    found = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=SECONDS) for p in range(count)]
    consumer.close()
    return found


def stable(servers: str, topic: str) -> bool:
    """Whether no transaction is open on any partition."""
    config = {"bootstrap.servers": servers, "group.id": "tests", "isolation.level": "read_committed"}
    consumer = Consumer(config)
    lowest = [
        consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=SECONDS)[1]
        for p in consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
    ]
    consumer.close()
    return lowest == [end for _, end in ends(servers, topic)]
