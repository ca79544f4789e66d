"""Topics of the Kafka in memory: their settings, and what a broker refuses to create."""

from __future__ import annotations

import re

from kstream.errors import TopicError
from kstream.types import NewTopic

DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.gzip.level": "-1",
    "compression.lz4.level": "9",
    "compression.type": "producer",
    "compression.zstd.level": "3",
    "delete.retention.ms": "86400000",
    "file.delete.delay.ms": "60000",
    "flush.messages": "9223372036854775807",
    "flush.ms": "9223372036854775807",
    "follower.replication.throttled.replicas": "",
    "index.interval.bytes": "4096",
    "leader.replication.throttled.replicas": "",
    "local.retention.bytes": "-2",
    "local.retention.ms": "-2",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "preallocate": "false",
    "remote.log.copy.disable": "false",
    "remote.log.delete.on.disable": "false",
    "remote.storage.enable": "false",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760",
    "segment.jitter.ms": "0",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}
"""Of Kafka 4.3, where a topic says nothing. They decide what is refused; nothing is deleted or compacted by itself."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_CHOICES = {
    "cleanup.policy": {"compact", "delete", "compact,delete", "delete,compact"},
    "message.timestamp.type": {"CreateTime", "LogAppendTime"},
}


def refuse(topic: NewTopic) -> None:
    """Raises TopicError where a cluster of one broker does not create it."""
    wrong = _wrong(topic)
    if wrong is not None:
        raise TopicError(f"topic {topic.name} cannot be created: {wrong}")


def _wrong(topic: NewTopic) -> str | None:
    if not _NAME.fullmatch(topic.name) or topic.name in (".", ".."):
        return "TOPIC_EXCEPTION: the name is invalid"
    if topic.partitions < 1:
        return f"INVALID_PARTITIONS: it cannot have {topic.partitions} partitions"
    if topic.replication > 1:
        return "INVALID_REPLICATION_FACTOR: there is one broker"
    for name, value in topic.config.items():
        if name not in DEFAULTS:
            return f"INVALID_CONFIG: unknown setting {name}"
        is_number = DEFAULTS[name].lstrip("-").isdigit()
        if (is_number and not re.fullmatch(r"-?\d+", value)) or value not in _CHOICES.get(name, {value}):
            return f"INVALID_CONFIG: {name} cannot be {value}"
    return None
