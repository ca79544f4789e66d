"""A real Kafka and the one in memory behind one face, for the tests that hold both to the same."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kstream.clock import SystemClock
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import BEGINNING, Clients, ConsumerClient, Fetch, NewTopic, Polled, TopicPartition
from support.kafka import write_bomb

SECONDS = 60.0
"""How long anything may take: milliseconds, where the machine has time."""

SESSION = 30.0
"""Long: a starved member does not lose its partitions."""

AT_MOST = 30.0
"""Seconds for what returns at once or after a second, on a busy machine; what would not return takes longer by far."""


class Cluster(Protocol):
    """What a conformance test is given."""

    clients: Clients

    def deny(self, topic: str, what: str) -> None:
        """Takes the clients' right to "read" or to "write" this topic."""
        ...

    def spoil(self, topic: str, partition: int) -> None:
        """One record more, which no client can read."""
        ...

    def hasty(self) -> Clients:
        """Clients whose group members lose their place when they stand still for two seconds."""
        ...

    def stand_still(self, member: str) -> None:
        """The member does not poll, until it has lost its place. Others are to be polled meanwhile."""
        ...

    def close(self) -> None: ...


class RealCluster:
    """`options` are those of `KafkaOptions`. The linger is long: what is produced before a flush is one batch."""

    def __init__(self, servers: str, **options: Any) -> None:
        raw = {"consumer.topic.metadata.refresh.interval.ms": "1000"}  # when a deleted topic is noticed
        chosen = {"session_timeout": SESSION, "transaction_timeout": 60.0, "linger": 0.5, "raw": raw, **options}
        self.clients: Clients = KafkaClients(servers, KafkaOptions(**chosen))
        self._servers = servers
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._acls: list[AclBinding] = []

    def deny(self, topic: str, what: str) -> None:
        def rule(operation: AclOperation, permission: AclPermissionType) -> AclBinding:
            pattern = ResourcePatternType.LITERAL
            return AclBinding(ResourceType.TOPIC, topic, pattern, "User:ANONYMOUS", "*", operation, permission)

        rules = [
            rule(AclOperation.ALL, AclPermissionType.ALLOW),
            rule(AclOperation[what.upper()], AclPermissionType.DENY),
        ]
        try:
            for made in self._admin.create_acls(rules).values():
                made.result(SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.SECURITY_DISABLED:
                pytest.skip("this Kafka has no authorizer")
            raise
        self._acls += rules
        everything = AclBindingFilter(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        wait(lambda: len(self._admin.describe_acls(everything).result(SECONDS)) >= len(rules) or None)

    def spoil(self, topic: str, partition: int) -> None:
        write_bomb(self._servers, topic, partition, "zstd", 110_000_000)

    def hasty(self) -> Clients:
        return KafkaClients(self._servers, KafkaOptions(session_timeout=2.0, max_poll_interval=2.0))

    def stand_still(self, member: str) -> None:
        return  # it does

    def close(self) -> None:
        filters = [
            AclBindingFilter(
                each.restype,
                each.name,
                each.resource_pattern_type,
                each.principal,
                each.host,
                each.operation,
                each.permission_type,
            )
            for each in self._acls
        ]
        for gone in self._admin.delete_acls(filters).values() if filters else ():
            gone.result(SECONDS)


class MemoryOne:
    """With the computer's clock, as a broker has it."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(SystemClock())
        self.clients: Clients = MemoryClients(self.cluster)

    def deny(self, topic: str, what: str) -> None:
        self.cluster.deny(topic, **{what: True})

    def spoil(self, topic: str, partition: int) -> None:
        log = self.cluster.log(TopicPartition(topic, partition))
        log.spoilt = self.cluster.append(topic, None, b"bomb", partition=partition).offset

    def hasty(self) -> Clients:
        return self.clients

    def stand_still(self, member: str) -> None:
        self.cluster.expire(member)

    def close(self) -> None:
        return


def name(what: str) -> str:
    return f"conformance-{what}-{uuid.uuid4().hex[:8]}"


def make_topic(clients: Clients, partitions: int = 1, **config: str) -> str:
    topic = name("topic")
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = clients.admin()
    admin.create_topics([NewTopic(topic, partitions, config=settings)], SECONDS)
    admin.close()
    return topic


def fill(clients: Clients, topic: str, count: int, partition: int = 0, start: int = 0) -> None:
    """Values are their numbers, so that offset and value agree in a topic that only this fills."""
    producer = clients.producer(None)
    for i in range(start, start + count):
        producer.produce(topic, b"%d" % i, b"k", partition)
    producer.flush(SECONDS)
    producer.close()


class Gathered:
    """What a consumer brought, until a condition holds."""

    def __init__(self) -> None:
        self.fetches: list[Fetch] = []
        self.ends: dict[TopicPartition, int] = {}

    def values(self, at: TopicPartition | None = None) -> list[bytes | None]:
        return [value for fetch in self.fetches if at in (None, fetch.at) for value in fetch.values()]

    def offsets(self, at: TopicPartition) -> list[int]:
        return [offset for fetch in self.fetches if fetch.at == at for offset in fetch.offsets()]

    def add(self, polled: Polled) -> None:
        self.fetches += polled.fetches
        self.ends.update(polled.ends)


def gather(
    consumer: ConsumerClient,
    until: Callable[[Gathered], object],
    *,
    records: int = 1000,
    others: Sequence[ConsumerClient] = (),
) -> Gathered:
    gathered, deadline = Gathered(), time.monotonic() + SECONDS
    while not until(gathered):
        assert time.monotonic() < deadline, f"still {gathered.fetches} {gathered.ends}"
        gathered.add(consumer.poll(records, 0.05))
        for other in others:
            other.poll(records, 0.0)
    return gathered


def quiet(consumer: ConsumerClient, seconds: float) -> Gathered:
    """What comes within this time."""
    deadline = time.monotonic() + seconds
    return gather(consumer, lambda _: time.monotonic() > deadline)


def committed(clients: Clients, topic: str, partition: int = 0) -> Gathered:
    """All of a partition, read committed, up to its end, where no transaction is under way."""
    at = TopicPartition(topic, partition)
    admin = clients.admin()
    end = admin.end_offsets([at]).result(SECONDS)[at]
    admin.close()
    reader = clients.reader()
    reader.assign({at: BEGINNING})
    found = gather(reader, lambda got: got.ends.get(at, -1) >= end)
    reader.close()
    return found


def wait(found: Callable[[], Any]) -> Any:
    """What it finds, once that is not None."""
    deadline = time.monotonic() + SECONDS
    while (result := found()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


class Listener:
    """Starts partitions at `starts` (else at the beginning) and writes down what it was told."""

    def __init__(self, starts: Mapping[TopicPartition, int] | None = None) -> None:
        self.starts = starts or {}
        self.owned: tuple[TopicPartition, ...] = ()
        self.told: list[tuple[str, tuple[TopicPartition, ...]]] = []
        self.fail: BaseException | None = None
        self.on_revoked: Callable[[], None] = lambda: None

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.told.append(("assigned", tuple(partitions)))
        self._maybe_fail()
        self.owned = tuple(partitions)
        return {at: self.starts.get(at, BEGINNING) for at in partitions}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", tuple(partitions)))
        self._maybe_fail()
        self.on_revoked()
        self.owned = ()

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", tuple(partitions)))
        self.owned = ()

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error


def joined(
    clients: Clients, group: str, topics: Sequence[str], listener: Listener, member: str | None = None
) -> ConsumerClient:
    consumer = clients.consumer(group, member or name("member"))
    consumer.subscribe(topics, listener)
    gather(consumer, lambda _: listener.owned)
    return consumer
