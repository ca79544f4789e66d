"""How the clients are configured, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

from kstream.config import Settings
from kstream.config.kinds import OURS, client_key
from kstream.errors import ConfigError
from kstream.runtime.kafka.entry import check_login, tokens_of

logger = logging.getLogger("kstream.kafka")

UNPACKED: Final = 32
"""How much memory a fetched byte may take. The limits of a fetch count compressed bytes, and each record costs hundreds
of bytes in librdkafka's queue: records of 60 bytes with lz4 grow by 14 to 17 times (64 partitions; it does not
hang on the number of partitions: a fetch is for all of them)."""

LARGEST_SENT: Final = 1_000_000
"""Bytes of a record: `message.max.bytes` of librdkafka, where it is not given."""
LEAST_FETCHED: Final = 256 << 10
MOST_FETCHED: Final = 50 << 20

_KINDS = ("consumer", "producer", "admin")


@dataclass(frozen=True)
class KafkaOptions:
    """Settings of all clients of a worker.

    Attributes:
        session_timeout: seconds after which a silent member's partitions go to others.
        max_poll_interval: seconds between two polls after which a member counts as stuck.
        transaction_timeout: seconds after which the broker aborts an open transaction. Below librdkafka's 60 s, as
            Kafka Streams has it: until then a dead worker's last transaction holds up every reader of its output.
        linger: seconds a record waits for others to share a batch with.
        compression: of what is produced: none, gzip, snappy, lz4 or zstd.
        fetch_memory: bytes the group consumer may prefetch, as they lie in memory; a reader (restore) half of it.
        producer_memory: bytes each producer may queue; beyond it `produce` raises BufferError.
        auto_offset_reset: where a position that is not in the log (any more) leads: earliest, latest, or error, which
            raises TopicError from `poll`. Where reading starts at first is the runtime's business.
        client_id: shown in the brokers' logs and quotas.
        passing_level: at which errors that librdkafka gets over by itself are logged.
        statistics_interval: seconds between librdkafka's statistics of consumers and producers; 0 for none.
        tokens: what gives tokens for OAUTHBEARER, `module:function`.
        raw: librdkafka's settings by their names, for all clients (`security.protocol`) or for one kind
            (`consumer.fetch.wait.max.ms`, `producer.`, `admin.`). They come last, except those of `OURS`.

    Raises:
        ConfigError: `raw` has a setting that kstream makes itself. The methods: nobody could log in with it.
    """

    session_timeout: float = 10.0
    max_poll_interval: float = 300.0
    transaction_timeout: float = 10.0
    linger: float = 0.005
    compression: str = "lz4"
    fetch_memory: int = 64 << 20
    producer_memory: int = 256 << 20
    auto_offset_reset: Literal["earliest", "latest", "error"] = "earliest"
    client_id: str = "kstream"
    passing_level: int = logging.WARNING
    statistics_interval: float = 0.0
    tokens: str | None = None
    raw: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.raw:
            if client_key(name) in OURS:
                raise ConfigError(f"kafka.{name} is set by kstream itself: {OURS[client_key(name)]}")

    def common(self, servers: str, kind: Literal["consumer", "producer", "admin"]) -> dict[str, Any]:
        """What all clients have, and the raw settings for this kind."""
        raw = {name: value for name, value in self.raw.items() if name.partition(".")[0] not in _KINDS}
        prefix = kind + "."
        raw |= {name.removeprefix(prefix): value for name, value in self.raw.items() if name.startswith(prefix)}
        tokens = _tokens(self.tokens)
        check_login(raw, tokens)
        return {
            "client.id": self.client_id,
            **({} if tokens is None else {"oauth_cb": tokens}),
            "socket.keepalive.enable": True,  # else a dead broker behind a firewall is noticed after minutes
            "reconnect.backoff.max.ms": 1000,  # 10 s by default: a restarted broker would be left waiting
            "topic.metadata.refresh.interval.ms": 60_000,
            **raw,
            "bootstrap.servers": servers,
            "logger": logger,
        }

    def consumer(self, servers: str, group: str | None, member: str | None) -> dict[str, Any]:
        """A member of a group, or (group None) a reader of assigned partitions."""
        fetch_memory = self.fetch_memory if group is not None else self.fetch_memory // 2
        fetch_max = max(min(fetch_memory // UNPACKED, MOST_FETCHED), LEAST_FETCHED)
        common = self.common(servers, "consumer")
        if "consumer.message.max.bytes" not in self.raw:
            # Of the producer's records: a broker sends a larger one whatever the limits of a fetch are, but librdkafka
            # wants fetch.max.bytes (the user's, or ours) to be as much, or refuses the configuration.
            fetched = str(common.get("fetch.max.bytes", ""))
            common["message.max.bytes"] = min(1_000_000, int(fetched) if fetched.isdigit() else fetch_max)
        return {
            "session.timeout.ms": round(self.session_timeout * 1000),
            # Members hear of a rebalance by their heartbeat, and all stand still until the last has heard.
            "heartbeat.interval.ms": max(round(min(self.session_timeout / 3, 0.2) * 1000), 1),
            "max.poll.interval.ms": round(max(self.max_poll_interval, self.session_timeout) * 1000),
            "allow.auto.create.topics": False,
            # Prefetch: taken up again within 5 ms (1 s by default, which stalls a fast consumer a second at a time).
            # All partitions share one queue, first come first served: what is behind a repartition waits for all that
            # is prefetched of the inputs before it. So each partition prefetches little, and a fetch brings little.
            "queued.min.messages": 20_000,
            "queued.max.messages.kbytes": max(fetch_memory >> 10, 1),
            "fetch.queue.backoff.ms": 5,
            "fetch.max.bytes": fetch_max,
            "max.partition.fetch.bytes": min(1 << 20, fetch_max),
            # A broker works on one fetch at a time and a partition that is resumed waits for the one under way: on an
            # idle topic that is this long (500 ms by default).
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 100,
            "statistics.interval.ms": round(self.statistics_interval * 1000),
            **common,
            "group.id": group or "kstream-reader",
            **({"group.instance.id": member} if member else {}),
            "partition.assignment.strategy": "range",  # keeps co-partitioned topics together
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # A reader restores a changelog: silently going on elsewhere would leave a hole in the state.
            "auto.offset.reset": "error" if group is None else self.auto_offset_reset,
        }

    def producer(self, servers: str, transactional_id: str | None) -> dict[str, Any]:
        """An idempotent producer, transactional when it has an id."""
        transactional = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": round(self.transaction_timeout * 1000),
        }
        common = self.common(servers, "producer")
        largest = largest_sent(self.raw)
        return {
            "linger.ms": self.linger * 1000,
            # A topic that does not exist fails its record, and not the commit that waits for it.
            "topic.metadata.propagation.max.ms": round(self.transaction_timeout * 1000 / 3),
            "compression.type": self.compression,
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": 2_000_000,
            # A record that the queue has no room for even when it is empty would be waited for for ever.
            "queue.buffering.max.kbytes": max(self.producer_memory, largest) // 1024 + 1,
            "statistics.interval.ms": round(self.statistics_interval * 1000),
            **common,
            **(transactional if transactional_id else {}),
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as Java clients do; librdkafka's own breaks co-partitioning
        }

    def admin(self, servers: str) -> dict[str, Any]:
        return self.common(servers, "admin")


_tokens = cache(tokens_of)
"""All clients of a process ask one and the same."""


def largest_sent(raw: Mapping[str, str]) -> int:
    """Bytes of a record that a producer with these settings takes."""
    given = str(raw.get("producer.message.max.bytes", raw.get("message.max.bytes", "")))
    return int(given) if given.isdigit() else LARGEST_SENT


def options_from(settings: Settings, client_id: str) -> KafkaOptions:
    return KafkaOptions(
        session_timeout=settings.session_timeout,
        max_poll_interval=settings.max_poll_interval,
        transaction_timeout=settings.transaction_timeout,
        linger=settings.linger,
        compression=settings.compression,
        fetch_memory=settings.fetch_memory,
        producer_memory=settings.producer_memory,
        auto_offset_reset=settings.auto_offset_reset,
        tokens=settings.kafka_tokens,
        raw=settings.kafka,
        client_id=client_id,
    )
