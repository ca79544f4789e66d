"""Errors that librdkafka gets over, its own lines among them: a sensible level, and not a flood."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from kstream.errors import KafkaUnavailable, TopicError
from kstream.observe.throttle import Throttle
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.kafka.options import logger
from kstream.runtime.kafka.problems import (
    ClientLines,
    RefusedTopics,
    Trouble,
    is_fenced,
    may_not,
    meaning,
    refused_topics,
    unread,
)
from kstream.testing import ManualClock
from kstream.types import TopicPartition


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """Moves the throttle of the Kafka clients' logger, which is a new one."""
    clock, before = ManualClock(), logger.filters[:]
    assert [type(one) for one in before] == [RefusedTopics, ClientLines, Throttle]
    logger.filters[:] = [ClientLines(), Throttle(clock=clock.monotonic)]
    yield clock
    logger.filters[:] = before


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == logger.name]


def test_the_same_passing_error_is_logged_every_ten_seconds_with_its_count(
    caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    trouble = Trouble("consumer m")
    down, slow = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 down"), KafkaError(KafkaError._TIMED_OUT, "slow")
    with caplog.at_level(logging.WARNING, logger.name):
        for step in (0.0, 1.0, 1.0, 7.9, 0.6, 0.5):
            clock.advance(step)
            trouble(down)
        trouble(slow)
    assert logged(caplog) == [
        ("WARNING", "consumer m: _ALL_BROKERS_DOWN: 1/1 down"),
        ("WARNING", "consumer m: _ALL_BROKERS_DOWN: 1/1 down (3 more in the last 10 s)"),
        ("WARNING", "consumer m: _TIMED_OUT: slow"),
    ]


def test_what_ends_a_client_is_kept() -> None:
    trouble = Trouble("consumer m")
    assert trouble.take() is None
    trouble(KafkaError(KafkaError._AUTHENTICATION, "bad password"))
    trouble(KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced", True))
    trouble(KafkaError(KafkaError._AUTHENTICATION, "bad password"))
    for _ in range(2):
        error = trouble.take()
        assert error is not None
        assert is_fenced(error)


def test_librdkafkas_lines_have_levels_that_fit(caplog: pytest.LogCaptureFixture, clock: ManualClock) -> None:
    form, client = "%s [%s] %s", "kstream#consumer-1"
    with caplog.at_level(logging.DEBUG, logger.name):
        logger.error(form, "FAIL", client, "[thrd:b:1]: b:1: Connection refused")
        logger.error(form, "ERROR", client, "b:1 failed")
        logger.warning(form, "REQTMOUT", client, "timed out")
        logger.critical(form, "FATAL", client, "fenced")
        logger.error("one of ours")
    assert logged(caplog) == [
        ("DEBUG", f"FAIL [{client}] [thrd:b:1]: b:1: Connection refused"),
        ("WARNING", f"ERROR [{client}] b:1 failed"),
        ("WARNING", f"REQTMOUT [{client}] timed out"),
        ("CRITICAL", f"FATAL [{client}] fenced"),
        ("ERROR", "one of ours"),
    ]
    caplog.clear()
    clock.advance(11)
    with caplog.at_level(logging.INFO, logger.name):
        logger.error(form, "FAIL", client, "[thrd:b:1]: b:1: Connection refused")
    assert logged(caplog) == []


def test_the_question_that_wakes_a_consumer_is_not_told_when_its_answer_is_late(
    caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    form, client = "%s [%s] %s", "kstream#consumer-1"
    one = "[thrd:b:1/1]: b:1/1: Timed out 1 in-flight, 0 retry-queued, 0 out-queue, 0 partially-sent requests"
    flight = "[thrd:b:1/1]: b:1/1: Timed out %s in flight (after %dms, timeout #0)"
    with caplog.at_level(logging.INFO, logger.name):
        logger.info(form, "REQTMOUT", client, flight % ("ListOffsetsRequest", 18))
        logger.warning(form, "REQTMOUT", client, one)
        assert logged(caplog) == []
        logger.info(form, "REQTMOUT", client, flight % ("ListOffsetsRequest", 10_018))
        logger.warning(form, "REQTMOUT", client, one)
        logger.info(form, "REQTMOUT", client, flight % ("FetchRequest", 18))
    assert len(logged(caplog)) == 3


def test_what_librdkafka_adds_to_a_line_makes_it_no_other_line(caplog: pytest.LogCaptureFixture) -> None:
    refused = "b:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after %dms in state CONNECT%s)"
    with caplog.at_level(logging.INFO, logger.name):
        logger.warning(refused, 0, "")
        logger.warning(refused, 12, ", 1 identical error(s) suppressed")
    assert len(logged(caplog)) == 1


def test_brokers_that_are_down_are_no_flood(caplog: pytest.LogCaptureFixture, clock: ManualClock) -> None:
    """A real client that tries for a second: it connects many times over, and says so once."""

    class Listener:
        def assigned(self, partitions: object) -> dict[TopicPartition, int]:
            return {}

        def revoked(self, partitions: object) -> None: ...
        def lost(self, partitions: object) -> None: ...

    consumer = KafkaClients(
        "127.0.0.1:1", KafkaOptions(raw={"reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "20"})
    ).consumer("g", "m")
    consumer.subscribe(["t"], Listener())
    with caplog.at_level(logging.INFO, logger.name):
        for _ in range(10):
            consumer.poll(10, 0.1)
        consumer.close()
    lines = logged(caplog)
    assert {level for level, _ in lines} == {"WARNING"}
    assert len([text for _, text in lines if "Connection refused" in text]) == 1, lines
    assert len(lines) <= 3, lines


def test_the_topic_that_a_transaction_may_not_write_to_is_heard_in_the_log(clock: ManualClock) -> None:
    heard = RefusedTopics()
    for what, reason in (
        ("counts", "Operation not attempted"),
        ("clicks-seen-changelog", "Topic authorization failed."),
    ):
        line = f'TxnCoordinator/1: Failed to add partition "{what}" [0] to transaction: Broker: {reason}'
        arguments = ("ADDPARTS", "c#producer-3", "main", line)
        record = logging.LogRecord(logger.name, logging.WARNING, "", 0, "%s [%s] [thrd:%s]: %s", arguments, None)
        assert heard.filter(record)
    assert heard.last == "clicks-seen-changelog"
    assert refused_topics.last is None  # of another one


def test_a_right_that_is_missing_is_named_with_what_it_is_to() -> None:
    group = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no")
    topic = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no")
    line = (
        "this user may not READ group clicks of Kafka at b:1: give it that right (consumer: GROUP_AUTHORIZATION_FAILED"
    )
    assert str(meaning(group, "consumer", "b:1", "READ group clicks")).startswith(line)
    assert isinstance(meaning(group, "consumer", "b:1", "READ group clicks"), KafkaUnavailable)
    assert isinstance(meaning(topic, "settings", "b:1", "DESCRIBE_CONFIGS topic t"), TopicError)
    assert may_not(topic, "READ group clicks", "b:1", "consumer") is None  # another right than that
    assert may_not(KafkaError(KafkaError._TIMED_OUT, "slow"), "READ group clicks", "b:1", "consumer") is None


def test_a_reader_outside_groups_needs_no_right_to_one() -> None:
    denied = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no")
    alone, member = Trouble("reader", alone=True), Trouble("consumer m")
    for trouble in (alone, member):
        trouble(denied)
    assert alone.take() is None
    assert member.take() is denied


def test_an_input_whose_offsets_may_not_be_committed_is_named() -> None:
    """As librdkafka 2.16 says it, with the topic's id where it knows that."""
    for named in ("svc-in.x-retry-1s((null))[0]", "svc-in.x-retry-1s[12]", "svc-in.x-retry-1s(5iB0vY)[3]"):
        text = (
            "Failed to commit offsets to transaction on broker sasl_plaintext://127.0.0.1:9092/1: "
            f"{named}(Broker: Topic authorization failed) (after 3ms)"
        )
        found = unread(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, text))
        assert found is not None and found.topics == ("svc-in.x-retry-1s",)
        assert "this user may not READ topic svc-in.x-retry-1s" in str(found)
        assert unread(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, text)) is None
    assert unread(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no topic is named")) is None
