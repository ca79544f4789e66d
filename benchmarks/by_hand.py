"""q0, q1 and q2 of services/nexmark written by hand: a consumer, a function and a producer, exactly once.

What `python -m benchmarks.streams` sets kstream beside: no errors are looked for, no partitions move, results have no
event time and nothing is measured, so it marks what Python's clients can do. A program, until its standard input ends:

    python -m benchmarks.by_hand SERVERS SOURCE RESULTS GROUP QUERY
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from confluent_kafka import TopicPartition

from benchmarks.yardstick import make_consumer, make_producer
from services.nexmark.model import Bid
from services.nexmark.queries.single import EURO, InEuros, Offer

COMMIT_INTERVAL: Final = 0.2
"""Seconds, as kstream's and Kafka Streams' in this comparison."""


def as_it_is(bid: Bid) -> Bid:
    return bid


def in_euros(bid: Bid) -> InEuros:
    return InEuros(bid.auction, bid.bidder, EURO * bid.price, bid.date_time, bid.extra)


def chosen(bid: Bid) -> Offer | None:
    return Offer(bid.auction, bid.price) if bid.auction % 123 == 0 else None


STEPS: Final[dict[str, Callable[[Bid], Any]]] = {"q0": as_it_is, "q1": in_euros, "q2": chosen}
"""What becomes of a bid; None: nothing."""


def run(servers: str, source: str, out: str, group: str, step: Callable[[Bid], Any]) -> None:
    """Reads, and commits what it has written and how far it has read, until standard input ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    consumer, producer = make_consumer(servers, group, 20_000), make_producer(servers, group)
    producer.init_transactions()
    read, write, produce = msgspec.json.Decoder(Bid).decode, msgspec.json.Encoder().encode, producer.produce
    position: dict[int, int] = {}
    committed = time.monotonic()
    consumer.subscribe([source])
    while not ended.is_set():
        messages: list[Any] = consumer.consume(2000, COMMIT_INTERVAL)
        if messages and not position:
            producer.begin_transaction()
        for message in messages:
            value = step(read(message.value()))
            if value is not None:
                produce(out, write(value), message.key())
            position[message.partition()] = message.offset() + 1
        producer.poll(0)
        if position and time.monotonic() - committed > COMMIT_INTERVAL:
            offsets = [TopicPartition(source, partition, offset) for partition, offset in position.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction()
            committed = time.monotonic()
            position.clear()
    consumer.close()


if __name__ == "__main__":
    run(*sys.argv[1:5], step=STEPS[sys.argv[5]])
