"""Reads outputs back, read committed, and says whether they are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from msgspec import json

from benchmarks.data import Data, price_sum
from benchmarks.records import Total


class WrongOutput(Exception):
    """A run finished, and what it wrote is not what it should have written."""


@dataclass(frozen=True)
class Written:
    """What is in a topic: how many records, and the last value of each key."""

    records: int
    last: dict[bytes, bytes]


def read(bootstrap: str, topic: str) -> Written:
    """All committed records of a topic.

    Raises:
        WrongOutput: it cannot be read.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-check",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 65536,
            "queued.min.messages": 1_000_000,
            "fetch.queue.backoff.ms": 5,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        key, value, error = Message.key, Message.value, Message.error
        last: dict[Any, Any] = {}
        records, left = 0, len(partitions)
        while left:
            messages = consumer.consume(20_000, 5.0)
            if not messages:
                raise WrongOutput(f"{topic}: its end cannot be reached: is a transaction open?")
            failures = list(filter(None, map(error, messages)))
            if failures:
                if any(failure.code() != KafkaError._PARTITION_EOF for failure in failures):
                    raise WrongOutput(f"{topic}: {failures[0]}")
                left -= len(failures)
                messages = [message for message in messages if error(message) is None]
            last.update(zip(map(key, messages), map(value, messages), strict=True))
            records += len(messages)
        return Written(records, last)
    finally:
        consumer.close()


def check_totals(bootstrap: str, topic: str, data: Data, *, every_update: bool) -> None:
    """The last totals of all keys must add up to the input: each record counted once, each price once.

    Raises:
        WrongOutput: they do not.
    """
    written = read(bootstrap, topic)
    totals = json.decode(b"[" + b",".join(written.last.values()) + b"]", type=list[Total])
    if any(key != b"%d" % total.auction for key, total in zip(written.last, totals, strict=True)):
        raise WrongOutput(f"{topic}: a total lies under another key")
    count, price = sum(total.count for total in totals), sum(total.sum for total in totals)
    if (count, price) != (data.records, price_sum(data)):
        raise WrongOutput(
            f"{topic}: counts add up to {count} and prices to {price} instead of {data.records} and {price_sum(data)}"
        )
    if every_update and written.records != data.records:
        raise WrongOutput(f"{topic}: {written.records} records instead of one for each of {data.records}")


def check_windows(bootstrap: str, topic: str, changelog: str, data: Data) -> None:
    """The totals of the windows that closed, each told once, and of those that are open must add up to the input.

    Raises:
        WrongOutput: they do not.
    """
    told, kept = read(bootstrap, topic), read(bootstrap, changelog)
    if told.records != len(told.last) or not told.records:
        raise WrongOutput(f"{topic}: {told.records} records of {len(told.last)} windows")
    values = [*told.last.values(), *(value for value in kept.last.values() if value)]
    totals = json.decode(b"[" + b",".join(values) + b"]", type=list[Total])
    count, price = sum(total.count for total in totals), sum(total.sum for total in totals)
    if (count, price) != (data.records, price_sum(data)):
        raise WrongOutput(
            f"{topic}: with the open windows counts add up to {count} and prices to {price} instead of {data.records} "
            f"and {price_sum(data)}"
        )
