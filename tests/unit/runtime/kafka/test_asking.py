"""Which client is asked, and how long it lives. There is no broker: no question has an answer."""

from __future__ import annotations

import socket
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient

from kstream.errors import ConfigError, KafkaUnavailable
from kstream.runtime.kafka import KafkaClients, asking
from kstream.runtime.kafka.asking import FAR_SECONDS, AskedClient, NoAnswer, NoTopics, describe_group
from kstream.types import TopicPartition

AT = TopicPartition("t", 0)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, Any]]:
    """Little patience; and what is asked: which call, with which time-out, of which client (weakly)."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(asking, "COORDINATOR_SECONDS", 0.6)
    noted: list[tuple[str, float, Any]] = []

    class Noted(AdminClient):
        def describe_consumer_groups(self, *args: Any, **more: Any) -> Any:
            noted.append(("describe", more["request_timeout"], weakref.ref(self)))
            return super().describe_consumer_groups(*args, **more)

        def list_consumer_group_offsets(self, *args: Any, **more: Any) -> Any:
            noted.append(("offsets", more["request_timeout"], weakref.ref(self)))
            return super().list_consumer_group_offsets(*args, **more)

        def alter_consumer_group_offsets(self, *args: Any, **more: Any) -> Any:
            noted.append(("alter", more["request_timeout"], weakref.ref(self)))
            return super().alter_consumer_group_offsets(*args, **more)

    monkeypatch.setattr(asking, "AdminClient", Noted)
    return noted


def test_no_client_is_kept_that_has_left_a_coordinators_question_without_an_answer(
    silent: str, hasty: list[tuple[str, float, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the Future that failed keeps it, nor anything else: its questions end with it, before librdkafka's time-out
    for them. One that timed out there would be answered with freed memory when the coordinator is back."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.02)  # on a busy machine, too, there is time for a second client
    admin = KafkaClients(silent).admin()
    answers = [admin.committed("g", [AT]), admin.members("g")]
    for answer in answers:
        with pytest.raises(KafkaUnavailable, match="no answer from the coordinator"):
            answer.result(30)
    assert {name for name, _, _ in hasty} == {"describe"}  # offsets are asked for when members were told
    assert len(hasty) >= 4  # each of them twice at least, the second time through another client
    assert {seconds for _, seconds, _ in hasty} == {FAR_SECONDS}
    assert FAR_SECONDS > 30 + asking.COORDINATOR_SECONDS  # longer than anybody waits for a client that was dropped
    deadline = time.monotonic() + 60  # the threads have told, and end
    while any(client() is not None for _, _, client in hasty):
        assert time.monotonic() < deadline, "a client is kept"
        time.sleep(0.01)
    admin.close()


def test_each_client_has_more_patience_than_the_one_before(
    silent: str, hasty: list[tuple[str, float, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asked a broker too early waits by itself: it is not waited for, where another has the answer at once."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.05)
    given, now = [], [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def no_answer(self: AskedClient, one: Any, asked: Any, seconds: float) -> list[Any]:
        given.append(seconds)
        sleep(seconds)
        self.drop(one)
        raise NoAnswer

    monkeypatch.setattr(AskedClient, "_answers", no_answer)
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with pytest.raises(NoAnswer):
        AskedClient({"bootstrap.servers": silent}).of_coordinator("g", lambda client: describe_group(client, "g"))
    rest = 0.6 - 0.05 - 0.15 - 2 * asking.AGAIN_SECONDS
    assert given == pytest.approx([0.05, 0.15, rest])
    assert len(hasty) == len(given)


def test_the_questions_for_offsets_have_the_far_time_out_too(silent: str, hasty: list[tuple[str, float, Any]]) -> None:
    one = AskedClient({"bootstrap.servers": silent})
    one.now().found["g"] = time.monotonic()
    request = ConsumerGroupTopicPartitions("g", [ClientPartition("t", 0)])
    before = weakref.ref(one.client)
    with pytest.raises(NoAnswer):
        one.of_coordinator("g", lambda client: client.list_consumer_group_offsets([request], request_timeout=90))
    assert before() is None
    assert [name for name, _, _ in hasty] == ["offsets"]


def test_a_client_that_has_heard_of_trouble_is_not_asked(nobody: str, hasty: list[tuple[str, float, Any]]) -> None:
    one = AskedClient({"bootstrap.servers": nobody})
    first = weakref.ref(one.client)
    deadline = time.monotonic() + 60
    while not one.now().heard.of_trouble:
        one.client.poll(0.01)
        assert time.monotonic() < deadline
    with pytest.raises(NoAnswer):
        one.of_coordinator("g", lambda client: describe_group(client, "g"))
    assert first() is None
    assert all(client() is not one.client for _, _, client in hasty)


def test_a_closed_one_says_so_and_a_bad_setting_is_told_at_once(nobody: str) -> None:
    one = AskedClient({"bootstrap.servers": nobody})
    one.close()
    one.close()
    with pytest.raises(KafkaUnavailable, match="closed"):
        one.of_coordinator("g", lambda client: describe_group(client, "g"))
    with pytest.raises(ConfigError, match="Kafka client"):
        AskedClient({"no.such.setting": "1"})


def test_a_question_for_topics_that_fails_otherwise_ends_too(nobody: str) -> None:
    """The thread that asks must answer whoever waits for it."""
    with pytest.raises(TypeError):
        AskedClient({"bootstrap.servers": nobody}).listed("no number")  # type: ignore[arg-type]


def test_nobody_there_is_told_with_what_was_heard(nobody: str) -> None:
    with pytest.raises(NoTopics) as nothing:
        AskedClient({"bootstrap.servers": nobody}).listed(0.5)
    heard = nothing.value.heard
    assert heard.refusal is None
    assert heard.last is not None and "Connection refused" in heard.last.str()
