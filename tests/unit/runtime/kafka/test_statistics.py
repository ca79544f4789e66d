"""librdkafka's statistics as metrics: what is counted once, what starts over, what is out of date.

The JSON is cut from what librdkafka 2.16 says; tests/broker/test_statistics.py has the real thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kstream.observe.catalogue import CATALOGUE
from kstream.runtime.kafka.statistics import Kind, Statistics
from kstream.runtime.kafka.statistics import log as logger
from kstream.testing.clock import ManualClock

NAMES = {
    "requests": "tx",
    "errors": "txerrs",
    "retries": "txretries",
    "timeouts": "req_timeouts",
    "connects": "connects",
}


def broker(rtt: int = 0, count: int = 0, throttle: int = 0, **counts: int) -> dict[str, Any]:
    return {
        "nodeid": 1,
        **{field: counts.get(name, 0) for name, field in NAMES.items()},
        "rtt": {"min": 1, "avg": rtt, "cnt": count},
        "throttle": {"min": 0, "avg": throttle, "cnt": count},
    }


def said(
    brokers: dict[str, dict[str, Any]] | None = None, topics: dict[str, list[dict[str, int]]] | None = None, **top: int
) -> str:
    """What a client says; `topics` has the partitions of each."""
    found = {name: {"partitions": dict(enumerate(each))} for name, each in (topics or {}).items()}
    return json.dumps({"type": "consumer", "ts": 1, **top, "brokers": brokers or {}, "topics": found})


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.statistics = Statistics(5.0, self.clock.monotonic)

    def client(self, kind: Kind) -> Callable[[str], None]:
        callback = self.statistics.callback(kind)
        assert callback is not None
        return callback

    def values(self) -> dict[tuple[str, ...], float]:
        series = self.statistics.collect()
        for one in series:
            assert len(CATALOGUE[one.name].labels) == len(one.labels)
        return {(one.name.removesuffix("_total"), *one.labels): one.value for one in series}


@pytest.fixture
def world() -> World:
    return World()


def test_requests_are_counted_over_the_brokers(world: World) -> None:
    say = world.client("producer")
    a = broker(requests=10, errors=1, retries=2, timeouts=3, connects=4)
    say(said({"a:9092/1": a, "TxnCoordinator": broker(requests=5)}))
    found = world.values()
    assert found["kafka_requests", "producer"] == 15
    assert found["kafka_request_errors", "producer"] == 1
    assert found["kafka_request_retries", "producer"] == 2
    assert found["kafka_request_timeouts", "producer"] == 3
    assert found["kafka_connects", "producer"] == 4


def test_a_broker_whose_number_becomes_known_is_still_the_same(world: World) -> None:
    say = world.client("consumer")
    say(said({"a:9092/bootstrap": broker(requests=3)}))
    say(said({"a:9092/1": broker(requests=8)}))
    assert world.values()["kafka_requests", "consumer"] == 8


def test_counts_go_on_with_the_next_client(world: World) -> None:
    world.client("producer")(said({"a:1/1": broker(requests=10)}, {"out": [{"txbytes": 100}]}))
    after = world.client("producer")
    after(said({"a:1/1": broker(requests=2)}, {"out": [{"txbytes": 30}]}))
    after(said({"a:1/1": broker(requests=3)}, {"out": [{"txbytes": 40}]}))
    found = world.values()
    assert found["kafka_requests", "producer"] == 13
    assert found["produced_bytes", "out"] == 140


def test_a_partition_that_left_and_came_back_counts_from_zero(world: World) -> None:
    say = world.client("consumer")
    for first, second in ((100, 10), (150, 10), (0, 20), (30, 20)):
        say(said(topics={"in": [{"rxbytes": first}, {"rxbytes": second}]}))
    assert world.values()["consumed_bytes", "in"] == 150 + 30 + 20


def test_bytes_are_those_of_the_group_consumer_and_the_producer(world: World) -> None:
    world.client("consumer")(said(topics={"in": [{"rxbytes": 7, "txbytes": 1}]}))
    world.client("producer")(said(topics={"out": [{"rxbytes": 1, "txbytes": 8}]}))
    world.client("reader")(said(topics={"changelog": [{"rxbytes": 9}]}))
    found = {at: value for at, value in world.values().items() if "bytes" in at[0] and "queued" not in at[0]}
    assert found == {("consumed_bytes", "in"): 7, ("produced_bytes", "out"): 8}


def test_round_trips_and_throttling_are_the_slowest_brokers_in_seconds(world: World) -> None:
    say = world.client("consumer")
    say(said({"a:1/1": broker(rtt=2_000, count=5), "b:1/2": broker(rtt=500_000, count=1, throttle=250)}))
    world.client("consumer")(said({"a:1/1": broker(rtt=3_000, count=2)}))
    found = world.values()
    assert found["kafka_broker_rtt_seconds", "consumer"] == 0.5
    assert found["kafka_throttle_seconds", "consumer"] == 0.25
    say(said({"a:1/1": broker(rtt=0, count=0)}))  # nothing was asked: nobody knows
    assert world.values()["kafka_broker_rtt_seconds", "consumer"] == 0.003


def test_the_queue_of_a_consumer_is_one_for_all_partitions(world: World) -> None:
    """Seen: with 64 partitions and 410 records in the queue, each partition says 410."""
    world.client("consumer")(said(topics={"in": [{"fetchq_cnt": 410, "fetchq_size": 3850}] * 64}))
    world.client("producer")(said(msg_cnt=12, msg_size=600, topics={"out": [{}]}))
    world.client("producer")(said(msg_cnt=1, msg_size=6))
    found = world.values()
    assert found["kafka_queued_records", "consumer"] == 410
    assert found["kafka_queued_bytes", "consumer"] == 3850
    assert found["kafka_queued_records", "producer"] == 13
    assert found["kafka_queued_bytes", "producer"] == 606


def test_a_client_that_is_silent_has_no_levels_and_keeps_its_counts(world: World) -> None:
    world.client("reader")(said({"a:1/1": broker(requests=4, rtt=5, count=1)}, msg_cnt=3))
    world.clock.advance(15.0)
    assert ("kafka_queued_records", "reader") in world.values()
    world.clock.advance(0.1)
    found = world.values()
    assert found["kafka_requests", "reader"] == 4
    assert all(CATALOGUE[f"{name}_total"].kind == "counter" for name, _ in found)


def test_what_cannot_be_read_is_said_once_and_harms_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    say = world.client("consumer")
    for text in ("{", '{"brokers": []}', '{"brokers": {}}'):
        say(text)
    assert world.values() == {}
    (line,) = (record.getMessage() for record in caplog.records if record.name == logger.name)
    assert line.startswith("librdkafka's statistics cannot be read, its metrics are missing: ")


def test_off_is_off() -> None:
    statistics = Statistics(0.0)
    assert statistics.callback("consumer") is None
    assert statistics.collect() == []


def test_a_consumer_without_any_broker_is_alone_until_one_is_there() -> None:
    world = World()
    consumer, producer = world.client("consumer"), world.client("producer")
    up, down = {**broker(), "state": "UP"}, {**broker(), "state": "DOWN"}
    consumer(said({"a:1/1": up, "b:1/2": down}))
    assert world.statistics.alone_for() is None
    consumer(said({"a:1/1": down, "b:1/2": {**broker(), "state": "CONNECT"}}))
    producer(said({"a:1/1": up}))
    world.clock.advance(5.0)
    consumer(said({"a:1/1": down, "b:1/2": down}))
    assert world.statistics.alone_for() == 5.0
    consumer(said({"a:1/1": up, "b:1/2": down}))
    assert world.statistics.alone_for() is None
