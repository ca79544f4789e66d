"""The clients of a MemoryCluster: what a worker gets in place of confluent-kafka's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TypeVar

from kstream.errors import KafkaUnavailable, KStreamError
from kstream.testing.cluster import MemoryCluster
from kstream.testing.consumer import MemoryConsumer
from kstream.testing.producer import MemoryProducer
from kstream.types import END, DescribedTopic, NewTopic, TopicInfo, TopicPartition

T = TypeVar("T")


class MemoryAdmin:
    """A `types.AdminClient`. Its futures are done when they are returned."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._closed = False

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        with self._around("admin.topics"):
            return {name: TopicInfo(name, info.partitions) for name, info in self._cluster.topics().items()}

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        with self._around("admin.topic_configs"):
            return {name: dict(self._cluster.topic(name).config) for name in names}

    def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
        with self._around("admin.create_topics"):
            for topic in topics:
                self._cluster.create(topic)

    def delete_topics(self, names: Sequence[str], timeout: float) -> None:
        with self._around("admin.delete_topics"):
            for name in names:
                if name in self._cluster.topics():
                    self._cluster.delete_topic(name)

    def add_partitions(self, counts: Mapping[str, int], timeout: float) -> None:
        with self._around("admin.add_partitions"):
            for name, count in counts.items():
                if self._cluster.topic(name).partitions != count:
                    self._cluster.add_partitions(name, count)

    def committed(
        self, group: str, partitions: Sequence[TopicPartition], *, stable: bool = True
    ) -> Future[dict[TopicPartition, tuple[int, str] | None]]:
        return self._answer("committed", lambda: self._cluster.group(group).committed(partitions, stable=stable))

    def members(self, group: str) -> Future[frozenset[str]]:
        return self._answer("members", lambda: frozenset(self._cluster.group(group).members))

    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]:
        def commit() -> None:
            self._cluster.group(group).commit(
                {at: offset for at, (offset, _) in offsets.items()}, {at: text for at, (_, text) in offsets.items()}
            )

        return self._answer("set_committed", commit)

    def delete_group(self, group: str) -> Future[None]:
        def delete() -> None:
            if self._cluster.group(group).members:
                raise KafkaUnavailable(f"deletion of group {group}: NON_EMPTY_GROUP: it has members")
            self._cluster.group(group).offsets.clear()

        return self._answer("delete_group", delete)

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        return self._answer("end_offsets", lambda: {at: self._cluster.log(at).end for at in partitions})

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        return self._answer("start_offsets", lambda: {at: self._cluster.log(at).start for at in partitions})

    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int
    ) -> Future[dict[TopicPartition, int | None]]:
        return self._answer(
            "offsets_at", lambda: {at: self._cluster.log(at).offset_at(milliseconds) for at in partitions}
        )

    def describe(self, names: Sequence[str]) -> Future[dict[str, DescribedTopic]]:
        cluster = self._cluster
        return self._answer(
            "describe",
            lambda: {
                name: DescribedTopic(cluster.topic_id(name), cluster.topic(name).partitions)
                for name in names
                if name in cluster.topics()
            },
        )

    def delete_records(self, before: Mapping[TopicPartition, int]) -> Future[None]:
        """`before` END means all."""

        def delete() -> None:
            for at, offset in before.items():
                log = self._cluster.log(at)
                if self._cluster.topic(at.topic).config["cleanup.policy"] == "compact":
                    raise KafkaUnavailable(f"deletion of records: POLICY_VIOLATION: {at.topic} is compacted")
                if offset > log.end:
                    raise KafkaUnavailable(f"deletion of records: OFFSET_OUT_OF_RANGE: {at} ends at {log.end}")
                log.truncate(log.end if offset == END else offset)

        return self._answer("delete_records", delete)

    def close(self) -> None:
        self._closed = True

    def _around(self, call: str) -> AbstractContextManager[None]:
        if self._closed:
            raise KafkaUnavailable("the admin client is closed")
        return self._cluster.faults.around(call)

    def _answer(self, call: str, make: Callable[[], T]) -> Future[T]:
        answer: Future[T] = Future()
        try:
            with self._around(f"admin.{call}"):
                result = make()
            answer.set_result(result)
        except Exception as error:
            answer.set_exception(error)
        return answer


class MemoryClients:
    """A `types.Clients` on one cluster. Several workers may share it, or have one each."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster

    def consumer(self, group: str, member: str) -> MemoryConsumer:
        return MemoryConsumer(self.cluster, group, member)

    def reader(self) -> MemoryConsumer:
        return MemoryConsumer(self.cluster)

    def producer(self, transactional_id: str | None) -> MemoryProducer:
        return MemoryProducer(self.cluster, transactional_id)

    def fence(self, transactional_id: str, timeout: float) -> Future[None]:
        answer: Future[None] = Future()
        try:
            with self.cluster.faults.around("clients.fence"):
                self.cluster.transactions.init(transactional_id)
            answer.set_result(None)
        except KStreamError as error:
            answer.set_exception(error)
        return answer

    def admin(self) -> MemoryAdmin:
        return MemoryAdmin(self.cluster)
