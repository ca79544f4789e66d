"""What `kstream doctor` asks a cluster: questions that change nothing, about brokers, rights and replicas."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    AdminClient,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.admin import NewTopic as ClientTopic  # type: ignore[attr-defined]

from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.kafka.problems import as_ours, describe, make, meaning, of
from kstream.types import NewTopic

T = TypeVar("T")

_API: Final = re.compile(r"ApiKey \S+ \((\d+)\) Versions (\d+)\.\.(\d+)")
_AGAIN: Final = frozenset({KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS})


@dataclass(frozen=True)
class Broker:
    id: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Cluster:
    id: str
    brokers: Sequence[Broker]


@dataclass(frozen=True)
class Partition:
    """`leader` is None while the partition has none. `replicas` and `in_sync` count brokers."""

    number: int
    leader: int | None
    replicas: int
    in_sync: int


class ClusterInspector:
    """Asks a cluster. Every method waits `timeout` seconds at most, and raises KafkaUnavailable or TopicError when the
    cluster does not answer or refuses. Rights are sets of Kafka's names, such as READ or DESCRIBE_CONFIGS.
    """

    def __init__(self, servers: str, options: KafkaOptions, timeout: float) -> None:
        self._servers, self._timeout = servers, timeout
        # librdkafka tells the versions of a broker's APIs nowhere but in its log.
        self._lines = _Lines()
        told = logging.Logger("kstream.doctor", logging.DEBUG)
        told.addHandler(self._lines)
        config = {**options.admin(servers), "log_level": "7", "debug": "feature", "logger": told}
        self._client = make(AdminClient, config)

    def cluster(self) -> Cluster:
        with as_ours("description of the cluster", self._servers):
            found = self._client.describe_cluster(request_timeout=self._timeout).result()
        return Cluster(found.cluster_id, [Broker(node.id, node.host, node.port) for node in found.nodes])

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """The APIs of the broker that was asked first: lowest and highest version by Kafka's number of the API."""
        self._client.poll(0.1)  # serves the log
        return self._lines.apis

    def broker_settings(self, broker: int) -> dict[str, str]:
        """The settings in force of one broker."""
        resource = ConfigResource(ResourceType.BROKER, str(broker))
        with as_ours(f"settings of broker {broker}", self._servers):
            (future,) = self._client.describe_configs([resource], request_timeout=self._timeout).values()
            entries = future.result()
        return {name: entry.value for name, entry in entries.items() if entry.value is not None}

    def topic(self, name: str) -> tuple[list[Partition], frozenset[str]]:
        """The partitions of a topic, and what we may do with it."""
        with as_ours(f"description of topic {name}", self._servers):
            asked = self._client.describe_topics(
                TopicCollection([name]), include_authorized_operations=True, request_timeout=self._timeout
            )
            found = asked[name].result()
        partitions = [
            Partition(each.id, None if each.leader is None else each.leader.id, len(each.replicas), len(each.isr))
            for each in found.partitions
        ]
        return partitions, _names(found.authorized_operations)

    def group_rights(self, group: str) -> frozenset[str]:
        """What we may do with a consumer group, whether there is one or not."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                asked = self._client.describe_consumer_groups(
                    [group], include_authorized_operations=True, request_timeout=self._timeout
                )
                return _names(asked[group].result().authorized_operations)
            except KafkaException as error:
                inner = of(error)
                # A cluster that never had a group is still making the topic of its offsets.
                if inner.code() not in _AGAIN or time.monotonic() > deadline:
                    raise meaning(inner, f"description of group {group}", self._servers) from error
            time.sleep(0.1)

    def refusals(self, topics: Sequence[NewTopic]) -> dict[str, str]:
        """Why topics could not be created, by name; nothing is created."""
        if not topics:
            return {}
        wanted = [ClientTopic(one.name, one.partitions, one.replication, config=dict(one.config)) for one in topics]
        with as_ours("creation of topics", self._servers):
            asked = self._client.create_topics(wanted, validate_only=True, request_timeout=self._timeout)
        refused = {}
        for name, future in asked.items():
            try:
                future.result()
            except KafkaException as error:
                refused[name] = describe(of(error))
        return refused


class _Lines(logging.Handler):
    """Takes the versions of APIs out of librdkafka's log."""

    def __init__(self) -> None:
        super().__init__()
        self.apis: dict[int, tuple[int, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if (found := _API.search(record.getMessage())) is not None:
            key, low, high = map(int, found.groups())
            self.apis.setdefault(key, (low, high))


def _names(operations: Sequence[Any] | None) -> frozenset[str]:
    return frozenset(operation.name for operation in operations or ())
