"""Writes the records of a service's input into Kafka, as fast as it goes or at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from kstream.errors import KStreamError

CHUNK = 500  # records between two looks at the clock


class Written(NamedTuple):
    """One record. `timestamp`: Kafka's, in ms since the epoch."""

    topic: str
    key: bytes | None
    value: bytes
    timestamp: int


def write(
    records: Iterable[Written],
    client: Mapping[str, str],
    *,
    rate: float | None = None,
    sent: Callable[[int], None] = lambda count: None,
    stop: threading.Event | None = None,
) -> int:
    """Produces the records, in order and without duplicates. Returns how many.

    Args:
        client: librdkafka's settings, `bootstrap.servers` at least.
        rate: records a second; None is as fast as it goes.
        sent: told now and then how many have been handed over.
        stop: when set, the writing ends early.

    Raises:
        KStreamError: a record was not delivered.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            **client,
            "enable.idempotence": True,  # in order and without duplicates, also when the broker answers late
            "partitioner": "murmur2_random",  # as Java clients choose; any partition for those without a key
            "linger.ms": 20,
            "compression.type": "lz4",
            "on_delivery": delivered,
        }
    )
    stop = stop or threading.Event()
    count, began = 0, time.monotonic()
    for chunk in _chunks(records, CHUNK if rate is None else max(1, min(CHUNK, int(rate / 20)))):
        for topic, key, value, stamp in chunk:
            while True:
                try:
                    producer.produce(topic, value, key, timestamp=stamp)
                    break
                except BufferError:  # the queue is full
                    producer.poll(0.1)
        producer.poll(0)
        count += len(chunk)
        sent(count)
        early = 0.0 if rate is None else count / rate - (time.monotonic() - began)
        if stop.wait(early) if early > 0 else stop.is_set():
            producer.purge()
            return count
        if failures:
            break
    left = producer.flush(60)
    if failures or left:
        raise KStreamError(f"records were not written: {failures[0].str() if failures else f'{left} undelivered'}")
    return count


def _chunks(records: Iterable[Written], size: int) -> Iterator[list[Written]]:
    left = iter(records)
    while chunk := list(islice(left, size)):
        yield chunk
