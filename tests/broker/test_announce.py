"""Announcements on a real Kafka: a broker that is killed and comes back, and none at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from confluent_kafka.admin import ResourceType as Resource

from kstream.devbroker import DevBroker
from kstream.observe.status import InputStatus, InstanceStatus, TaskStatus
from kstream.runtime.cluster import announce
from kstream.runtime.cluster.announce import Announcer, quiet, read_clocks, read_instances
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from support.running import until

INTERVAL = 0.3
AT_MOST = 14.0
"""Seconds for a stop that waits 2 at most: what else it takes is the busy machine's. Kafka's clients wait 15."""


def status(name: str, tasks: int = 64) -> InstanceStatus:
    return InstanceStatus(
        app="a",
        instance=name,
        state="running",
        at=time.time(),
        started=1.0,
        ready=True,
        host="h",
        tasks=[TaskStatus(f"t/{n}", "0", "running", inputs=[InputStatus("t", n, n, 0, 1.0)]) for n in range(tasks)],
    )


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    with DevBroker(start_timeout=180) as broker:
        yield broker


@pytest.fixture
def start() -> Iterator[Callable[[str, str], Announcer]]:
    made: list[Announcer] = []

    def start(servers: str, name: str) -> Announcer:
        clients = KafkaClients(servers, quiet(KafkaOptions(client_id=name)))
        announcer = Announcer(clients, "a", INTERVAL, lambda: status(name))
        announcer.start()
        made.append(announcer)
        return announcer

    yield start
    for announcer in made:
        announcer.stop()


def states(announcer: Announcer) -> dict[str, str]:
    return {one.instance: one.state for one in announcer.others()}


def test_a_broker_that_is_killed_and_comes_back(
    broker: DevBroker,
    start: Callable[[str, str], Announcer],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING, "kstream.runtime.cluster.announce")
    monkeypatch.setattr(announce, "GOODBYE_SECONDS", 30.0)  # on a busy machine 1 s may not be enough
    servers = broker.bootstrap_servers
    one, two, three = (start(servers, name) for name in ("one", "two", "three"))
    until(lambda: states(one) == {"two": "running", "three": "running"}, "the others")
    until(lambda: "one" in states(two), "the first to be heard")
    (seen, _) = one.others()
    assert (seen.instance, len(seen.tasks), seen.tasks[63].inputs[0].position) == ("three", 64, 63)

    clients = KafkaClients(servers, quiet(KafkaOptions()))
    assert [each.instance for each in read_instances(clients, "a", 60)] == ["one", "three", "two"]
    clocks = read_clocks(clients, "a", 60)
    assert set(clocks) == {"one", "two", "three"}
    assert all(host == "h" and -1 < skew < 60 for host, skew in clocks.values())  # with the time it was under way

    began = time.monotonic()
    three.stop()
    assert time.monotonic() - began < AT_MOST
    until(lambda: states(one) == {"two": "running"}, "three to be gone")

    caplog.clear()  # on a busy machine they may have been slow before
    broker.kill()
    until(lambda: states(one) == {"two": "silent"}, "silence")
    began = time.monotonic()
    two.stop()  # it cannot say goodbye
    assert time.monotonic() - began < AT_MOST
    told = [record for record in caplog.records if "other instances may not see" in record.getMessage()]
    assert len(told) <= 2, "one line at most of each that was there"
    broker.start()
    four = start(servers, "four")
    until(lambda: states(one).get("four") == "running", "the first to hear again", 60)
    until(lambda: states(four).get("one") == "running", "the first to be heard again", 60)
    # what it had under way may have come through with the broker's return, a goodbye perhaps
    until(lambda: states(one).get("two") in ("silent", None), "the second not to be taken for alive")


def test_the_topic_as_it_is_made(broker: DevBroker, start: Callable[[str, str], Announcer]) -> None:
    start(broker.bootstrap_servers, "one")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    until(lambda: "a-instances" in admin.list_topics(timeout=60).topics, "the topic")
    (future,) = admin.describe_configs([ConfigResource(Resource.TOPIC, "a-instances")]).values()
    found = {name: entry.value for name, entry in future.result(60).items()}
    assert (found["cleanup.policy"], found["message.timestamp.type"]) == ("compact,delete", "LogAppendTime")
    assert (found["retention.ms"], found["segment.bytes"]) == ("3600000", "1048576")


def test_no_kafka_at_all(
    start: Callable[[str, str], Announcer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "TOPIC_SECONDS", 1.0)
    caplog.set_level(logging.INFO)
    alone = start("127.0.0.1:1", "alone")
    until(lambda: "no Kafka broker answers at 127.0.0.1:1" in caplog.text, "the line", 60)
    began = time.monotonic()
    alone.stop()
    assert time.monotonic() - began < AT_MOST
    assert alone.others() == []
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    lines = [record.getMessage() for record in warnings if record.name.startswith("kstream")]
    assert len(lines) == 1 and lines[0].startswith("other instances may not see this one")
