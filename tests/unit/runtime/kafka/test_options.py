"""What is fetched at once follows the memory that is given for it."""

from __future__ import annotations

import confluent_kafka
import pytest

from kstream.config import Settings
from kstream.runtime.kafka.options import LEAST_FETCHED, MOST_FETCHED, UNPACKED, KafkaOptions, options_from
from kstream.runtime.kafka.problems import make

MIB = 1 << 20


@pytest.mark.parametrize("member", ["m", None])
@pytest.mark.parametrize("memory", [16, 128, 512, 2048, 65536])
def test_a_fetch_unpacked_fits_into_the_memory_for_it(memory: int, member: str | None) -> None:
    options = options_from(Settings(memory=memory * MIB), "c")
    config = options.consumer("b:1", "g" if member else None, member)
    share = options.fetch_memory if member else options.fetch_memory // 2
    assert config["queued.max.messages.kbytes"] * 1024 <= share
    assert LEAST_FETCHED <= config["fetch.max.bytes"] <= MOST_FETCHED
    assert config["fetch.max.bytes"] * UNPACKED <= max(share, LEAST_FETCHED * UNPACKED)
    assert config["max.partition.fetch.bytes"] <= config["fetch.max.bytes"]
    assert config["message.max.bytes"] <= config["fetch.max.bytes"]  # librdkafka raises the latter to the former


def test_the_default_fetches_two_megabytes_and_a_user_may_say_else() -> None:
    assert options_from(Settings(), "c").consumer("b:1", "g", "m")["fetch.max.bytes"] == 2 * MIB
    raw = {"consumer.fetch.max.bytes": "9000000"}
    assert KafkaOptions(raw=raw).consumer("b:1", "g", "m")["fetch.max.bytes"] == "9000000"


@pytest.mark.parametrize("member", ["m", None])
@pytest.mark.parametrize(
    "raw", [{"message.max.bytes": "5000000"}, {"fetch.max.bytes": "500000"}, {"consumer.fetch.max.bytes": "500000"}]
)
def test_what_the_producer_may_send_is_no_limit_of_what_is_fetched(raw: dict[str, str], member: str | None) -> None:
    options = options_from(Settings(kafka=raw), "c")
    make(confluent_kafka.Consumer, options.consumer("127.0.0.1:1", "g" if member else None, member)).close()
    assert options.producer("b:1", None).get("message.max.bytes") == raw.get("message.max.bytes")


def test_a_topic_that_does_not_exist_is_told_before_a_commit_gives_up() -> None:
    made = KafkaOptions(transaction_timeout=9.0).producer("kafka:9092", "app-0")
    assert made["topic.metadata.propagation.max.ms"] == 3000 < made["transaction.timeout.ms"]


@pytest.mark.parametrize("raw", [{}, {"message.max.bytes": "20000000"}, {"producer.message.max.bytes": "20000000"}])
def test_the_largest_record_that_may_be_sent_has_room_in_the_queue(raw: dict[str, str]) -> None:
    """However little memory there is: what has no room in an empty queue would be waited for for ever."""
    options = options_from(Settings(memory=16 * MIB, memory_producer_fraction=0.0, kafka=raw), "c")
    largest = 20_000_000 if raw else 1_000_000
    producer = make(confluent_kafka.Producer, options.producer("127.0.0.1:1", None))
    producer.produce("t", bytes(largest - 1000))
    with pytest.raises(BufferError):  # it is not without bounds
        producer.produce("t", bytes(largest - 1000))
    producer.purge()
