"""Positions as librdkafka takes them."""

from __future__ import annotations

from collections.abc import Mapping

import confluent_kafka

from kstream.types import TopicPartition


def client_partition(at: TopicPartition) -> confluent_kafka.TopicPartition:
    return confluent_kafka.TopicPartition(at.topic, at.partition)


def client_positions(
    offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str] | None = None
) -> list[confluent_kafka.TopicPartition]:
    told = metadata or {}
    return [
        confluent_kafka.TopicPartition(at.topic, at.partition, offset, told[at])
        if at in told
        else confluent_kafka.TopicPartition(at.topic, at.partition, offset)
        for at, offset in offsets.items()
    ]
