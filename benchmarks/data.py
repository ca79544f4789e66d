"""The input topics: made once per broker, shared by all cases, and the same on every run.

A topic is named after what is in it, so a broker that has it already (`--bootstrap`) is not filled again. Keys go to
partitions by murmur2, as kstream and Java clients write them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is there

PARTITIONS = 4
POOL = 1_000_000
"""Bids are made once for so many records and repeated after that: making them takes longer than sending them."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Data:
    """An input topic: `records` bids over `keys` auctions; with as many keys as records each comes once."""

    records: int
    keys: int
    partitions: int = PARTITIONS

    @property
    def topic(self) -> str:
        spread = "" if self.partitions == PARTITIONS else f"-{self.partitions}"
        return f"bench-bids-{self.records}-{self.keys}{spread}-v1"

    @property
    def once(self) -> bool:
        return self.records == self.keys

    def bids(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and price of each record, always the same."""
        choose = random.Random(42)
        if self.once:
            auctions = list(range(self.keys))
            choose.shuffle(auctions)
            for auction in auctions:
                yield _bid(auction, choose)
            return
        pool = [_bid(choose.randrange(self.keys), choose) for _ in range(min(POOL, self.records))]
        left = self.records
        while left > 0:
            yield from islice(pool, left)
            left -= len(pool)


@cache
def price_sum(data: Data) -> int:
    """The sum of all prices: what the outputs must add up to."""
    return sum(price for _, _, price in data.bids())


def _bid(auction: int, choose: random.Random) -> tuple[bytes, bytes, int]:
    price = 1 + int(choose.random() * 10_000)
    bidder = int(choose.random() * 50_000)
    return b"%d" % auction, b'{"auction":%d,"price":%d,"bidder":"b%d"}' % (auction, price, bidder), price


def fill(bootstrap: str, data: Data, progress: Progress) -> None:
    """Makes the topic and fills it, unless it is there and full.

    Raises:
        RuntimeError: records were not delivered.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    if data.topic in admin.list_topics(timeout=30).topics:
        if records_in(bootstrap, data.topic) == data.records:
            return
        _wait(admin.delete_topics([data.topic]))
    config = {"retention.ms": "-1", "segment.bytes": str(256 << 20)}
    _wait(admin.create_topics([NewTopic(data.topic, data.partitions, 1, config=config)]))
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 256 << 10,
        }
    )
    topic, produce = data.topic, producer.produce
    for number, (key, value, _) in enumerate(data.bids()):
        while True:
            try:
                produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
            progress(number)
    producer.flush(120)
    if records_in(bootstrap, topic) != data.records:
        raise RuntimeError(f"{topic} holds {records_in(bootstrap, topic)} records instead of {data.records}")


def records_in(bootstrap: str, topic: str) -> int:
    """Offsets between the start and the end of a topic: its records, where there are no transactions."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-ends"})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        total = 0
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            total += high - low
        return total
    finally:
        consumer.close()


def make_topics(bootstrap: str, names: list[str], config: dict[str, str] | None = None) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    _wait(admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config or {}) for name in names]))


def delete_topics(bootstrap: str, prefix: str) -> None:
    """Deletes all topics whose names begin with `prefix`: what one run has left."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    names = [name for name in admin.list_topics(timeout=30).topics if name.startswith(prefix)]
    if names:
        _wait(admin.delete_topics(names))


def _wait(futures: dict[str, Future[Any]]) -> None:
    for future in futures.values():
        future.result()
