"""Topics, committed offsets, ends of logs. What is asked while tasks run comes as a future."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    AdminClient,
    NewPartitions,
    OffsetSpec,
)
from confluent_kafka.admin import NewTopic as ClientTopic  # type: ignore[attr-defined]

from kstream.errors import AbortRequired, KafkaUnavailable, KStreamError, TopicError
from kstream.runtime.kafka.asking import FAR_SECONDS, Asked, AskedClient, NoAnswer, NoTopics, answers, describe_group
from kstream.runtime.kafka.configs import configs_of
from kstream.runtime.kafka.entry import no_answer, refused
from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.kafka.problems import NO_TOPIC, as_ours, describe, meaning, of
from kstream.types import DescribedTopic, NewTopic, TopicInfo, TopicPartition

T = TypeVar("T")

_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

REQUEST_SECONDS: Final = 30.0
"""After this a future fails with KafkaUnavailable."""

DESCRIPTION_SECONDS: Final = 5.0
"""The same for a description of topics."""

LEADERS_SECONDS: Final = 10.0
"""For how long leaders count as known. librdkafka forgets them after three times `topic.metadata.refresh.interval.ms`,
a minute unless that is set, when it hears nothing of them."""

_NO_ID: Final = "A" * 22
"""A zero in base64."""


class KafkaAdmin:
    """Implements `kstream.types.AdminClient`. Thread-safe. Futures end on other threads."""

    def __init__(self, servers: str, options: KafkaOptions) -> None:
        self._servers = servers
        config = options.admin(servers)
        self._protocol = str(config.get("security.protocol", "plaintext"))
        self._asked = AskedClient(config)

    # ---- topics

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        """All topics, without their settings. Raises KafkaUnavailable within `timeout` seconds."""
        found = self._metadata(timeout)
        return {name: TopicInfo(name, len(one.partitions)) for name, one in found.items() if one.error is None}

    def _metadata(self, timeout: float) -> dict[str, Any]:
        try:
            return self._asked.listed(timeout)
        except NoTopics as nothing:
            error, heard = nothing.error, nothing.heard
        if heard.refusal is not None:
            raise refused(heard.refusal[1], self._servers)
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            raise no_answer(self._servers, timeout, self._protocol, heard.last)
        raise meaning(error, "list of topics", self._servers)

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        """All settings of these topics, defaults too. Raises TopicError, KafkaUnavailable.

        The topics are there: a broker that does not know one has not heard of it yet, and is asked again.
        """
        return configs_of(self._asked, self._servers, names, timeout) if names else {}

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
        try:
            with as_ours("creation of topics", self._servers):
                asked = self._asked.client.create_topics(wanted, request_timeout=timeout)
        except ValueError as error:  # numbers that no topic can have
            raise TopicError(f"topics cannot be created: {error}") from error
        for name, future in asked.items():
            try:
                future.result()
            except KafkaException as error:
                inner = of(error)
                if inner.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                if inner.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                    raise meaning(inner, f"creation of topic {name}", self._servers) from error
                if inner.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise TopicError(
                        f"this user may not CREATE topic {name} of Kafka at {self._servers} (or, where it is there, "
                        f"not DESCRIBE it): give it that right ({describe(inner)})"
                    ) from None
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
        with as_ours("deletion of topics", self._servers):
            asked = self._asked.client.delete_topics(list(names), request_timeout=timeout)
        for name, future in asked.items():
            try:
                future.result()
            except KafkaException as error:
                inner = of(error)
                if inner.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise meaning(inner, f"deletion of topic {name}", self._servers, f"DELETE topic {name}") from error
        self._until(deadline, lambda found: not any(name in found for name in names), f"{sorted(names)}")

    def add_partitions(self, counts: Mapping[str, int], timeout: float) -> None:
        """Topics have so many from now on, with leaders. Raises as `create_topics`; TopicError where one has more."""
        deadline, had = time.monotonic() + timeout, self.topics(timeout)
        there = {name for name, count in counts.items() if name in had and had[name].partitions == count}
        wanted = [NewPartitions(name, count) for name, count in counts.items() if name not in there]
        with as_ours("partitions of topics", self._servers):
            asked = self._asked.client.create_partitions(wanted, request_timeout=timeout) if wanted else {}
        for name, future in asked.items():
            try:
                future.result()
            except KafkaException as error:
                inner = of(error)
                if inner.code() == KafkaError.INVALID_PARTITIONS:
                    raise TopicError(
                        f"topic {name} cannot have {counts[name]} partitions: {describe(inner)}"
                    ) from error
                raise meaning(inner, f"partitions of topic {name}", self._servers, f"ALTER topic {name}") from error

        def seen(name: str, one: Any) -> bool:
            return one is not None and len(one.partitions) == counts[name] and _ready(one)

        self._until(deadline, lambda found: all(seen(name, found.get(name)) for name in counts), f"{sorted(counts)}")

    def _until(self, deadline: float, holds: Callable[[dict[str, Any]], bool], what: str) -> None:
        while not holds(self._metadata(max(deadline - time.monotonic(), 1.0))):
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka at {self._servers}: the change of topics {what} is not seen in time")
            time.sleep(0.02)

    # ---- offsets. A question has its own thread: it waits there for what must be known before asking.

    def committed(
        self, group: str, partitions: Sequence[TopicPartition], *, stable: bool = True
    ) -> Future[dict[TopicPartition, tuple[int, str] | None]]:
        """Committed (offset, metadata), None where none was committed.

        The future fails with AbortRequired while a transaction on any is pending, if it is to be `stable`, and with
        KafkaUnavailable when the coordinator does not answer. An error of a partition is never taken for "none".
        """
        return self._on_a_thread(self._committed, group, partitions, stable) if partitions else _done({})

    def _committed(
        self, group: str, partitions: Sequence[TopicPartition], stable: bool
    ) -> dict[TopicPartition, tuple[int, str] | None]:
        doing = f"committed offsets of group {group}"
        request = ConsumerGroupTopicPartitions(group, [ClientPartition(*at) for at in partitions])
        (answer,) = self._of_coordinator(
            group,
            lambda client: client.list_consumer_group_offsets(
                [request], require_stable=stable, request_timeout=FAR_SECONDS
            ),
            doing,
        )
        committed: dict[TopicPartition, tuple[int, str] | None] = {}
        for each in answer.topic_partitions:
            if each.error is not None:
                raise self._meaning(each.error, doing, f"DESCRIBE topic {each.topic}")
            at = TopicPartition(each.topic, each.partition)
            committed[at] = (each.offset, each.metadata or "") if each.offset >= 0 else None
        return committed

    def _of_coordinator(self, group: str, ask: Callable[[AdminClient], Asked], doing: str) -> list[Any]:
        try:
            return self._asked.of_coordinator(group, ask)
        except NoAnswer:
            raise KafkaUnavailable(f"Kafka at {self._servers} ({doing}: no answer from the coordinator)") from None
        except KafkaException as error:
            raise self._meaning(of(error), doing, f"DESCRIBE group {group}") from error

    def _ask_leaders(
        self, partitions: Iterable[TopicPartition], ask: Callable[[AdminClient], Asked]
    ) -> tuple[AdminClient, Asked]:
        """Asks for descriptions of the topics first, which makes their leaders known to the client. `list_offsets` and
        `delete_records` look them up on the thread that calls; where one is not known they wait for news, and if those
        come at once, librdkafka's own thread answers and frees the question under the hands of the other: the process
        ends with a segmentation fault (`rd_kafka_topic_partition_list_query_leaders_async`, 2.8 to 2.16 at least; seen
        when a worker restored its first tasks on a busy machine)."""
        with self._asked.lock:
            one = self._asked.now()
            client, since = one.client, time.monotonic() - LEADERS_SECONDS
            topics = dict.fromkeys(at.topic for at in partitions)
            if unknown := [topic for topic in topics if one.described.get(topic, since) <= since]:
                asked = client.describe_topics(TopicCollection(unknown), request_timeout=DESCRIPTION_SECONDS)
                self._answers(client, asked, f"description of topics {', '.join(unknown)}")
                one.described.update(dict.fromkeys(unknown, time.monotonic()))
            return client, ask(client)

    def members(self, group: str) -> Future[frozenset[str]]:
        """By static ids (else those that Kafka gave them); none when there is no such group."""
        return self._on_a_thread(self._members, group)

    def _members(self, group: str) -> frozenset[str]:
        (answer,) = self._of_coordinator(
            group, lambda client: describe_group(client, group), f"members of group {group}"
        )
        return frozenset(one.group_instance_id or one.member_id for one in answer.members)

    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]:
        """Commits (offset, metadata) for a group without members."""
        return self._on_a_thread(self._set_committed, group, offsets)

    def _set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        doing = f"commit for group {group}"
        wanted = [ClientPartition(*at, offset, metadata) for at, (offset, metadata) in offsets.items()]
        request = ConsumerGroupTopicPartitions(group, wanted)
        (answer,) = self._of_coordinator(
            group, lambda client: client.alter_consumer_group_offsets([request], request_timeout=FAR_SECONDS), doing
        )
        for each in answer.topic_partitions:
            if each.error is not None:
                raise self._meaning(each.error, doing, f"READ topic {each.topic}")

    def delete_group(self, group: str) -> Future[None]:
        """Deletes a group without members, and its offsets. One that is not there is no error."""
        return self._on_a_thread(self._delete_group, group)

    def _delete_group(self, group: str) -> None:
        doing = f"deletion of group {group}"
        try:
            self._asked.of_coordinator(
                group, lambda client: client.delete_consumer_groups([group], request_timeout=FAR_SECONDS)
            )
        except NoAnswer:
            raise KafkaUnavailable(f"Kafka at {self._servers} ({doing}: no answer from the coordinator)") from None
        except KafkaException as error:
            if of(error).code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._meaning(of(error), doing, f"DELETE group {group}") from error

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        """Log end offsets, read uncommitted: past open transactions and their markers."""
        return self._on_a_thread(self._offsets, partitions, _LATEST, "end offsets") if partitions else _done({})

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        """The first offset that has not been deleted."""
        return self._on_a_thread(self._offsets, partitions, _EARLIEST, "start offsets") if partitions else _done({})

    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int
    ) -> Future[dict[TopicPartition, int | None]]:
        """The first offset whose time stamp (ms since the epoch) is this or later; None where there is none."""
        return self._on_a_thread(self._offsets_at, partitions, milliseconds) if partitions else _done({})

    def _offsets_at(self, partitions: Sequence[TopicPartition], milliseconds: int) -> dict[TopicPartition, int | None]:
        found = self._offsets(partitions, OffsetSpec.for_timestamp(milliseconds), "offsets of a time")
        return {at: offset if offset >= 0 else None for at, offset in found.items()}

    def _offsets(self, partitions: Sequence[TopicPartition], which: Any, doing: str) -> dict[TopicPartition, int]:
        client, asked = self._ask_leaders(
            partitions,
            lambda client: client.list_offsets(
                {ClientPartition(*at): which for at in partitions},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=REQUEST_SECONDS,
            ),
        )
        answers = self._answers(client, asked, doing, f"DESCRIBE topic {_topics(partitions)}")
        found = {TopicPartition(at.topic, at.partition): each.offset for at, each in zip(asked, answers, strict=True)}
        least = 0 if which in (_LATEST, _EARLIEST) else -1  # of a time: there is no such record
        for at, offset in found.items():
            if offset < least:  # without an error: so librdkafka answers now and then while a leader moves
                self._asked.drop()
                raise KafkaUnavailable(f"Kafka at {self._servers} ({doing}: that of {at} is not told)")
        return found

    def describe(self, names: Sequence[str]) -> Future[dict[str, DescribedTopic]]:
        """Those that exist, as they are now."""
        return self._on_a_thread(self._describe, names) if names else _done({})

    def _describe(self, names: Sequence[str]) -> dict[str, DescribedTopic]:
        client = self._asked.client
        asked = client.describe_topics(TopicCollection(list(names)), request_timeout=DESCRIPTION_SECONDS)
        found = {}
        for name, future in asked.items():
            error = future.exception()
            if isinstance(error, KafkaException):
                inner = of(error)
                if inner.code() not in NO_TOPIC:
                    raise self._meaning(inner, f"description of topic {name}")
                continue
            topic = future.result()
            topic_id = str(topic.topic_id)
            found[name] = DescribedTopic(None if topic_id == _NO_ID else topic_id, len(topic.partitions))
        return found

    def delete_records(self, before: Mapping[TopicPartition, int]) -> Future[None]:
        """Deletes all records below these offsets."""
        return self._on_a_thread(self._delete_records, before) if before else _done(None)

    def _delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        client, asked = self._ask_leaders(
            before,
            lambda client: client.delete_records(
                [ClientPartition(at.topic, at.partition, offset) for at, offset in before.items()],
                request_timeout=REQUEST_SECONDS,
            ),
        )
        self._answers(client, asked, "deletion of records", f"DELETE topic {_topics(before)}")

    def _answers(self, client: AdminClient, asked: Asked, doing: str, right: str = "") -> list[Any]:
        """Waits for all of them, and keeps the client that was asked until then: librdkafka ends every question in
        time, but forgets those of a client that is freed. The first error is raised as one of ours."""
        try:
            return answers(asked)
        except KafkaException as error:
            raise self._meaning(of(error), doing, right) from error

    def _meaning(self, error: KafkaError, doing: str, right: str = "") -> KStreamError:
        if error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
            return AbortRequired(f"{doing}: a transaction on them is pending")
        self._asked.failed(error.code())
        return meaning(error, doing, self._servers, right)

    def _on_a_thread(self, question: Callable[..., T], *arguments: Any) -> Future[T]:
        """Its answer. The thread is a daemon: a process that ends does not wait for brokers."""
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()

        def ask() -> None:
            try:
                answer.set_result(question(*arguments))
            except KafkaException as error:  # of the call itself, not of its answers
                answer.set_exception(self._meaning(of(error), question.__name__))
            except BaseException as error:  # whoever waits gets it, without our frames: they hold the client
                error.__cause__ = error.__context__ = None
                answer.set_exception(error.with_traceback(None))

        threading.Thread(target=ask, name=question.__name__, daemon=True).start()
        return answer

    def close(self) -> None:
        """Waits for nobody: what was asked may have no answer for half a minute, and keeps the client so long.
        Idempotent."""
        self._asked.close()


def _topics(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(dict.fromkeys(at.topic for at in partitions))


def _ready(topic: Any) -> bool:
    return topic.error is None and all(each.leader >= 0 and each.error is None for each in topic.partitions.values())


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
