"""Positions as librdkafka takes them, and what it is to be told instead of those that are not numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import confluent_kafka
from confluent_kafka import KafkaException

from kstream.runtime.kafka.problems import Trouble, of
from kstream.types import BEGINNING, TopicPartition

RESOLVE_SECONDS: Final = 5.0
START_SECONDS: Final = 1.0


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


def absolute(
    consumer: confluent_kafka.Consumer, trouble: Trouble, positions: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """BEGINNING and END as numbers, asked of the broker. librdkafka would ask too, but its answer may come after a
    `seek` and undo it (one in three, in a group that has just been joined)."""
    logical = [at for at, offset in positions.items() if offset < 0]
    if not logical:
        return positions
    found = dict(positions)
    for at in logical:
        try:
            low, high = consumer.get_watermark_offsets(client_partition(at), timeout=RESOLVE_SECONDS)
        except KafkaException as error:
            trouble.note(of(error))
            continue
        told = low if positions[at] == BEGINNING else high  # read committed: the last stable offset
        if told >= 0:  # -1001 is no answer, and as a position it would stand for `auto.offset.reset`
            found[at] = told
    return found


def in_the_log(
    consumer: confluent_kafka.Consumer, trouble: Trouble, positions: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """For `assign` in a group: 0 stands for what is not known yet, and may have been deleted (repartition topics are
    purged). A fetch that slips out before `pause` would make librdkafka warn that it resets the offset. Asked in one
    request; without an answer the positions stay, and there may be such a warning."""
    unknown = [at for at, offset in positions.items() if offset == 0]
    if not unknown:
        return positions
    asked = client_positions(dict.fromkeys(unknown, BEGINNING))
    try:
        starts = consumer.offsets_for_times(asked, timeout=START_SECONDS)
    except KafkaException as error:
        trouble.note(of(error))
        return positions
    known = {TopicPartition(each.topic, each.partition): each.offset for each in starts if each.error is None}
    return {at: max(offset, known.get(at, 0)) for at, offset in positions.items()}
