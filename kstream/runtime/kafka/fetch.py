"""What librdkafka's messages are to kstream: runs of one partition, read column by column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from confluent_kafka import Message

from kstream.types import Fetch, Headers, TopicPartition

_value, _key, _headers = Message.value, Message.key, Message.headers
_offset, _timestamp, _partition, _topic = Message.offset, Message.timestamp, Message.partition, Message.topic


class MessageFetch:
    """Implements `kstream.types.Fetch` over librdkafka's messages. Columns are made by C-level maps: 25-30 ns a value
    (timestamps 70)."""

    __slots__ = ("_messages", "at")

    def __init__(self, at: TopicPartition, messages: list[Message]) -> None:
        self.at = at
        self._messages = messages

    @property
    def first_offset(self) -> int:
        return self._messages[0].offset()  # type: ignore[return-value]

    @property
    def last_offset(self) -> int:
        return self._messages[-1].offset()  # type: ignore[return-value]

    @property
    def first_timestamp(self) -> int:
        return self._messages[0].timestamp()[1]

    @property
    def last_timestamp(self) -> int:
        return self._messages[-1].timestamp()[1]

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return f"<{self.at} {self.first_offset}..{self.last_offset}>"

    def keys(self) -> list[bytes | None]:
        return list(map(_key, self._messages))

    def values(self) -> list[bytes | None]:
        return list(map(_value, self._messages))

    def timestamps(self) -> list[int]:
        return [timestamp for _, timestamp in map(_timestamp, self._messages)]

    def offsets(self) -> list[int]:
        return list(map(_offset, self._messages))  # type: ignore[arg-type]

    def headers(self) -> list[Headers | None]:
        return list(map(_headers, self._messages))  # type: ignore[arg-type]

    def cut(self, start: int, stop: int) -> MessageFetch:
        return MessageFetch(self.at, self._messages[start:stop])


def split(messages: list[Message], topics: int) -> list[Fetch]:
    """Cuts messages (none of them an error) into runs of one partition.

    Costs 35 ns a record for one run, 40 for several, and 30 more where there are several topics.
    """
    if not messages:
        return []
    partitions: Sequence[object] = list(map(_partition, messages))
    first = messages[0]
    if topics > 1:
        names = list(map(_topic, messages))
        if names.count(first.topic()) != len(names):
            partitions = list(zip(names, partitions, strict=True))
    if partitions.count(partitions[0]) == len(messages):
        return [MessageFetch(place_of(first), messages)]
    runs: list[Fetch] = []
    start = 0
    for _, run in groupby(partitions):
        stop = start + len(list(run))
        runs.append(MessageFetch(place_of(messages[start]), messages[start:stop]))
        start = stop
    return runs


def place_of(message: Message) -> TopicPartition:
    return TopicPartition(message.topic(), message.partition())  # type: ignore[arg-type]
