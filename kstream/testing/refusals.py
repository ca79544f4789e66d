"""What a Kafka in memory refuses, as librdkafka and a broker of Kafka 4 do: what the conformance tests found there.

The client looks at one record, when it is produced. The broker looks at a batch, and refuses all of it for one bad
record.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import Any

from kstream.errors import RecordRefused
from kstream.types import Headers, TopicInfo

RECORD_LIMIT = 1_000_000
"""Bytes of a record that librdkafka takes (message.max.bytes), and of a batch that it makes."""

CLIENT_BYTES = 36
"""What librdkafka adds to key, value and headers when it compares."""

BATCH_BYTES, RECORD_BYTES = 61, 9
"""What a batch and each small record in it add to their keys and values in the broker's eyes."""


def content_of(value: bytes | None, key: bytes | None, headers: Headers | None) -> bytes:
    """A record's bytes, more or less as they travel."""
    content = (value or b"") + (key or b"")
    for name, header in headers or ():
        content += b"%d%b%d%b" % (len(name) % 10, name.encode(), len(header or b"") % 10, header or b"")
    return content


def refuse_at_once(topic: TopicInfo, value: bytes | None, key: bytes | None, partition: int, headers: Any) -> None:
    """What the client does not even send. Raises RecordRefused."""
    size = len(value or b"") + len(key or b"")
    if (wrong := _wrong_headers(headers)) is not None:
        raise RecordRefused("TypeError", topic.name, partition, key, size, wrong)
    if partition != -1 and not 0 <= partition < topic.partitions:
        raise RecordRefused("_UNKNOWN_PARTITION", topic.name, partition, key, size)
    if len(content_of(value, key, headers)) + CLIENT_BYTES > RECORD_LIMIT:
        raise RecordRefused("MSG_SIZE_TOO_LARGE", topic.name, partition, key, size)


def _wrong_headers(headers: Any) -> str | None:
    """What confluent-kafka raises TypeError for."""
    if headers is None:
        return None
    if not isinstance(headers, list) or not all(isinstance(each, tuple) and len(each) == 2 for each in headers):
        return "headers are a list of (name, value)"
    for name, value in headers:
        if not (value is None or isinstance(value, bytes)) or not isinstance(name, str):
            return f"header {name!r}: a name is str, a value bytes or None"
    return None


def refused_by_broker(topic: TopicInfo, key: bytes | None, timestamp: int, now: int) -> str | None:
    """Kafka's name for what is wrong with one record. `timestamp` and `now` are in ms since the epoch.

    What lies ahead is measured from the computer's clock where `now` is behind it: the clock of a test may stand in the
    past, and records with today's date are none of the future.
    """
    config = topic.config
    if key is None and "compact" in config["cleanup.policy"]:
        return "INVALID_RECORD"
    if config["message.timestamp.type"] == "CreateTime":
        ahead = timestamp - max(now, int(time.time() * 1000))
        if ahead > int(config["message.timestamp.after.max.ms"]):
            return "INVALID_TIMESTAMP"
        if now - timestamp > int(config["message.timestamp.before.max.ms"]):
            return "INVALID_TIMESTAMP"
    return None


def too_large(topic: TopicInfo, size: int, contents: Sequence[bytes]) -> bool:
    """Whether a batch is over the topic's limit, which counts compressed bytes.

    Args:
        size: of the records together, in bytes: their contents, and RECORD_BYTES each.
        contents: what each of its records consists of.
    """
    limit = int(topic.config["max.message.bytes"]) - BATCH_BYTES
    if size <= limit:
        return False
    return len(zlib.compress(b"".join(contents), 1)) > limit
