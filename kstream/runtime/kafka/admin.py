"""Topics, committed offsets, ends of logs. What is asked while tasks run comes as a future."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.admin import NewTopic as ClientTopic  # type: ignore[attr-defined]

from kstream.errors import AbortRequired, KafkaUnavailable, KStreamError, TopicError
from kstream.runtime.kafka.leaders import Leaders
from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.kafka.problems import describe, make, meaning, of
from kstream.types import NewTopic, TopicInfo, TopicPartition

T = TypeVar("T")

_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

REQUEST_SECONDS: Final = 30.0
"""After this a future fails with KafkaUnavailable."""

COORDINATOR_SECONDS: Final = 5.0
"""The same for a question to a group's coordinator."""

FOUND_SECONDS: Final = 0.1
"""For how long a coordinator that has just answered counts as there."""


class KafkaAdmin:
    """Implements `kstream.types.AdminClient`. Thread-safe. Futures end on other threads."""

    def __init__(self, servers: str, options: KafkaOptions) -> None:
        self._servers = servers
        self._config = options.admin(servers)
        self._client = make(AdminClient, self._config)
        self._leaders = Leaders(self._descriptions)
        self._pool = ThreadPoolExecutor(8, "committed offsets")
        self._finding = threading.Lock()
        self._found: dict[str, float] = {}  # group: when its coordinator answered
        self._worn = False

    # ---- topics

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        """All topics, without their settings. Raises KafkaUnavailable within `timeout` seconds."""
        return {
            name: TopicInfo(name, len(topic.partitions))
            for name, topic in self._metadata(timeout).items()
            if topic.error is None
        }

    def _metadata(self, timeout: float) -> dict[str, Any]:
        try:
            found = self._client.list_topics(timeout=timeout)
        except KafkaException as error:
            inner = of(error)
            if inner.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
                raise KafkaUnavailable(
                    f"no Kafka broker answers at {self._servers} (waited {timeout:g} s): start one, or set"
                    " bootstrap_servers"
                ) from error
            raise meaning(inner, "list of topics", self._servers) from error
        return dict(found.topics)

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        """All settings of these topics, defaults too. Raises TopicError, KafkaUnavailable.

        The topics are there: a broker that does not know one has not heard of it yet, and is asked again.
        """
        if not names:
            return {}
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._topic_configs(names, max(deadline - time.monotonic(), 1.0))
            except KafkaException as error:
                inner = of(error)
                if inner.code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                    raise meaning(inner, f"settings of topics {', '.join(names)}", self._servers) from error
            time.sleep(0.02)

    def _topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        return {
            resource.name: {name: entry.value for name, entry in future.result().items() if entry.value is not None}
            for resource, future in self._client.describe_configs(resources, request_timeout=timeout).items()
        }

    def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
        """Creates those that are missing and waits, `timeout` seconds at most, until every partition has a leader.

        Raises:
            TopicError: the cluster refuses one.
            KafkaUnavailable: no broker answers, or it takes too long.
        """
        if not topics:
            return
        deadline = time.monotonic() + timeout
        wanted = [
            ClientTopic(each.name, each.partitions, each.replication, config=dict(each.config)) for each in topics
        ]
        for name, future in self._client.create_topics(wanted, request_timeout=timeout).items():
            try:
                future.result()
            except KafkaException as error:
                inner = of(error)
                if inner.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                if inner.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                    raise meaning(inner, f"creation of topic {name}", self._servers) from error
                raise TopicError(f"topic {name} cannot be created: {describe(inner)}") from error
        names = {each.name for each in topics}
        self._until(
            deadline, lambda found: all(name in found and _ready(found[name]) for name in names), f"{sorted(names)}"
        )

    def delete_topics(self, names: Sequence[str], timeout: float) -> None:
        """Deletes those that exist and waits until they are gone from the metadata. Raises as `create_topics`."""
        if not names:
            return
        deadline = time.monotonic() + timeout
        for name, future in self._client.delete_topics(list(names), request_timeout=timeout).items():
            try:
                future.result()
            except KafkaException as error:
                inner = of(error)
                if inner.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise meaning(inner, f"deletion of topic {name}", self._servers) from error
        self._until(deadline, lambda found: not any(name in found for name in names), f"{sorted(names)}")

    def _until(self, deadline: float, holds: Callable[[dict[str, Any]], bool], what: str) -> None:
        while not holds(self._metadata(max(deadline - time.monotonic(), 1.0))):
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka at {self._servers}: no news of topics {what} in time")
            time.sleep(0.02)

    # ---- offsets

    def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Future[dict[TopicPartition, tuple[int, str] | None]]:
        """Stable committed (offset, metadata), None where none was committed.

        The future fails with AbortRequired while a transaction on any of them is pending, with KafkaUnavailable when
        the coordinator does not answer. An error of one partition is never taken for "none was committed".
        """
        if not partitions:
            return _done({})
        return self._pool.submit(self._committed, group, partitions)

    def _committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, str] | None]:
        self._find_coordinator(group)
        request = ConsumerGroupTopicPartitions(group, [ClientPartition(*at) for at in partitions])
        asked = self._client.list_consumer_group_offsets(
            [request], require_stable=True, request_timeout=COORDINATOR_SECONDS
        )

        def found(answers: list[Any]) -> dict[TopicPartition, tuple[int, str] | None]:
            committed: dict[TopicPartition, tuple[int, str] | None] = {}
            for each in answers[0].topic_partitions:
                if each.error is not None:
                    raise KafkaException(each.error)
                at = TopicPartition(each.topic, each.partition)
                committed[at] = (each.offset, each.metadata or "") if each.offset >= 0 else None
            return committed

        return self._gather(list(asked.values()), found, f"committed offsets of group {group}").result()

    def _find_coordinator(self, group: str) -> None:
        """Asks it for the group's members first. Where it has moved, or has not loaded the group yet, it refuses: that
        ends the question for members with an error, and the question for offsets with a segmentation fault (librdkafka
        #5040, open). And a client that knew a coordinator before the broker went away may never ask it again (#5511,
        open; seen when a broker was killed): after a failure the next question goes out through a new one.
        """
        with self._finding:
            if self._worn:
                self._worn, self._client = False, make(AdminClient, self._config)
                self._leaders = Leaders(self._descriptions)
                self._found = {}
            if time.monotonic() - self._found.get(group, float("-inf")) > FOUND_SECONDS:
                try:
                    self.members(group).result()
                except KStreamError:
                    self._worn = True
                    raise
                self._found[group] = time.monotonic()

    def members(self, group: str) -> Future[int]:
        """How many members a group has; 0 when there is no such group."""
        asked = self._client.describe_consumer_groups([group], request_timeout=COORDINATOR_SECONDS)
        return self._gather(
            list(asked.values()), lambda answers: len(answers[0].members), f"description of group {group}"
        )

    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]:
        """Commits (offset, metadata) for a group without members."""
        wanted = [ClientPartition(*at, offset, metadata) for at, (offset, metadata) in offsets.items()]
        asked = self._client.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, wanted)], request_timeout=COORDINATOR_SECONDS
        )

        def done(answers: list[Any]) -> None:
            for each in answers[0].topic_partitions:
                if each.error is not None:
                    raise KafkaException(each.error)

        return self._gather(list(asked.values()), done, f"commit for group {group}")

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        """Log end offsets, read uncommitted: past open transactions and their markers."""
        return self._offsets(partitions, _LATEST, "end offsets")

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        """The first offset that has not been deleted."""
        return self._offsets(partitions, _EARLIEST, "start offsets")

    def _offsets(
        self, partitions: Sequence[TopicPartition], which: Any, doing: str
    ) -> Future[dict[TopicPartition, int]]:
        if not partitions:
            return _done({})

        def question() -> Future[dict[TopicPartition, int]]:
            asked = self._client.list_offsets(
                {ClientPartition(*at): which for at in partitions},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=REQUEST_SECONDS,
            )
            order = [TopicPartition(at.topic, at.partition) for at in asked]
            return self._gather(
                list(asked.values()),
                lambda answers: {at: each.offset for at, each in zip(order, answers, strict=True)},
                doing,
            )

        return self._of_leaders(partitions, question, doing)

    def delete_records(self, before: Mapping[TopicPartition, int]) -> Future[None]:
        """Deletes all records below these offsets."""
        if not before:
            return _done(None)
        doing = "deletion of records"

        def question() -> Future[None]:
            asked = self._client.delete_records(
                [ClientPartition(at.topic, at.partition, offset) for at, offset in before.items()],
                request_timeout=REQUEST_SECONDS,
            )
            return self._gather(list(asked.values()), lambda _: None, doing)

        return self._of_leaders(before, question, doing)

    def _of_leaders(
        self, partitions: Iterable[TopicPartition], question: Callable[[], Future[T]], doing: str
    ) -> Future[T]:
        leaders = self._leaders

        def ask() -> Future[T]:
            if leaders is not self._leaders:  # they are known to the client before, not to this one
                raise KafkaUnavailable(f"{doing}: another client was made meanwhile")
            return question()

        return leaders.ask((at.topic for at in partitions), ask)

    def _descriptions(self, topics: list[str]) -> dict[str, Future[None]]:
        asked = self._client.describe_topics(TopicCollection(topics), request_timeout=REQUEST_SECONDS)
        return {
            topic: self._gather([answer], lambda _: None, f"description of topic {topic}")
            for topic, answer in asked.items()
        }

    def _gather(self, asked: Sequence[Future[Any]], make_result: Callable[[list[Any]], T], doing: str) -> Future[T]:
        """One future of all answers; it fails with the first error, as one of ours."""
        result: Future[T] = Future()
        result.set_running_or_notify_cancel()
        left, lock = [len(asked)], threading.Lock()

        def one_came(_: Future[Any]) -> None:
            with lock:
                left[0] -= 1
                if left[0]:
                    return
            try:
                result.set_result(make_result([each.result() for each in asked]))
            except KafkaException as error:
                result.set_exception(self._meaning(of(error), doing))
            except Exception as error:
                result.set_exception(error)

        for each in asked:
            each.add_done_callback(one_came)
        return result

    def _meaning(self, error: KafkaError, doing: str) -> KStreamError:
        if error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
            return AbortRequired(f"{doing}: a transaction on them is pending")
        if error.code() == KafkaError._TIMED_OUT:
            self._worn = True
        return meaning(error, doing, self._servers)

    def close(self) -> None:
        """Frees the client; futures that are not done fail. Idempotent."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.__dict__.pop("_client", None)


def _ready(topic: Any) -> bool:
    return topic.error is None and all(each.leader >= 0 and each.error is None for each in topic.partitions.values())


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
