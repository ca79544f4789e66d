"""Leaders are known before they are asked: else librdkafka may end the process."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicCollection

from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka import KafkaOptions
from kstream.runtime.kafka.admin import KafkaAdmin
from kstream.runtime.kafka.leaders import FRESH_SECONDS, Leaders
from kstream.types import TopicPartition


class Cluster:
    """Notes what it is asked, and answers when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.described: list[list[str]] = []
        self.descriptions: dict[str, Future[None]] = {}
        self.questions: list[Future[int]] = []
        self.leaders = Leaders(self._describe, lambda: self.now)

    def _describe(self, topics: list[str]) -> dict[str, Future[None]]:
        self.described.append(topics)
        asked: dict[str, Future[None]] = {topic: Future() for topic in topics}
        self.descriptions |= asked
        return asked

    def question(self) -> Future[int]:
        self.questions.append(Future())
        return self.questions[-1]

    def ask(self, *topics: str) -> Future[int]:
        return self.leaders.ask(topics, self.question)

    def know(self, *topics: str) -> None:
        for topic in topics:
            self.descriptions[topic].set_result(None)


def test_a_question_waits_until_all_its_topics_are_known() -> None:
    cluster = Cluster()
    answer = cluster.ask("a", "b", "a")
    assert cluster.described == [["a", "b"]]
    cluster.know("a")
    assert not cluster.questions
    cluster.know("b")
    cluster.questions[0].set_result(7)
    assert answer.result(0) == 7


def test_topics_that_are_asked_for_already_are_waited_for() -> None:
    cluster = Cluster()
    cluster.ask("a", "b")
    cluster.ask("b", "c")
    cluster.ask("a")
    assert cluster.described == [["a", "b"], ["c"]]
    cluster.know("b", "c")
    assert len(cluster.questions) == 1
    cluster.know("a")
    assert len(cluster.questions) == 3


def test_known_leaders_are_asked_at_once_for_a_while() -> None:
    cluster = Cluster()
    cluster.ask("a")
    cluster.know("a")
    cluster.now += FRESH_SECONDS - 1
    cluster.ask("a")
    assert (len(cluster.questions), len(cluster.described)) == (2, 1)
    cluster.now += 1
    cluster.ask("a")
    assert (len(cluster.questions), len(cluster.described)) == (2, 2)


def test_a_description_that_fails_fails_the_question_and_is_asked_for_again() -> None:
    cluster = Cluster()
    answer = cluster.ask("a", "b")
    cluster.know("a")
    cluster.descriptions["b"].set_exception(ValueError("no such topic"))
    with pytest.raises(ValueError, match="no such topic"):
        answer.result(0)
    assert not cluster.questions
    cluster.ask("a", "b")
    assert cluster.described == [["a", "b"], ["b"]]


def test_after_a_question_that_failed_the_leaders_are_unknown() -> None:
    """They have moved, say, and librdkafka has forgotten them."""
    cluster = Cluster()
    answer = cluster.ask("a")
    cluster.know("a")
    cluster.questions[0].set_exception(ValueError("not the leader"))
    with pytest.raises(ValueError, match="not the leader"):
        answer.result(0)
    cluster.ask("a")
    assert (len(cluster.questions), len(cluster.described)) == (1, 2)


def test_a_question_that_cannot_be_asked_fails() -> None:
    cluster = Cluster()

    def closed() -> Future[int]:
        raise RuntimeError("closed")

    answer = cluster.leaders.ask(["a"], closed)
    cluster.know("a")
    with pytest.raises(RuntimeError, match="closed"):
        answer.result(0)


class Client:
    """librdkafka's, as far as it is asked here."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe_topics(self, topics: TopicCollection, **_: object) -> dict[str, Future[None]]:
        self.asked += [f"description of {name}" for name in topics.topic_names]
        return {name: done(None) for name in topics.topic_names}

    def list_offsets(self, asked: dict[object, object], **_: object) -> dict[object, Future[object]]:
        self.asked.append("offsets")
        return {at: done(SimpleNamespace(offset=7)) for at in asked}

    def delete_records(self, asked: list[object], **_: object) -> dict[object, Future[object]]:
        self.asked.append("deletion")
        return {at: done(object()) for at in asked}


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_the_admin_client_asks_for_leaders_first() -> None:
    client, admin = Client(), KafkaAdmin("127.0.0.1:1", KafkaOptions())
    admin._client = client  # type: ignore[assignment]
    a, b = TopicPartition("a", 0), TopicPartition("b", 1)
    assert admin.end_offsets([a]).result(0) == {a: 7}
    assert admin.start_offsets([a]).result(0) == {a: 7}
    admin.delete_records({b: 3}).result(0)
    assert client.asked == ["description of a", "offsets", "offsets", "description of b", "deletion"]


def test_known_to_one_client_is_not_known_to_the_next() -> None:
    client, admin = Client(), KafkaAdmin("127.0.0.1:1", KafkaOptions())
    admin._client = client  # type: ignore[assignment]
    at = TopicPartition("a", 0)
    description: Future[None] = Future()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(client, "describe_topics", lambda topics, **_: {"a": description})
        answer = admin.end_offsets([at])
    admin._leaders = Leaders(admin._descriptions)  # as when a client is given up
    description.set_result(None)
    with pytest.raises(KafkaUnavailable, match="another client was made meanwhile"):
        answer.result(0)
    assert not client.asked
