"""What is refused of topics' names where they are declared is what a real Kafka refuses when they are made."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kstream.errors import TopologyError
from kstream.specs.names import check_name, metric_name
from support.kafka import SECONDS

OWN = f"n{uuid.uuid4().hex[:8]}"
NAMES = [
    f"{OWN}.A-b_9",
    OWN + "x" * 240,
    OWN + "x" * 241,
    f"{OWN}/eu",
    f"{OWN} b",
    f"{OWN}ß",
    f"{OWN}+",
    f"{OWN}~",
    ".",
    "..",
]


@pytest.fixture(scope="module")
def admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers})


def makes(admin: AdminClient, name: str) -> bool:
    try:
        admin.create_topics([NewTopic(name, 1, 1)], operation_timeout=SECONDS)[name].result(SECONDS)
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_EXCEPTION, error
        return False
    return True


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))  # the names differ from run to run
def test_kafka_and_the_check_agree(admin: AdminClient, name: str) -> None:
    try:
        check_name(name, "topic")
    except TopologyError:
        assert not makes(admin, name)
    else:
        assert makes(admin, name)


def test_of_names_that_differ_in_dots_and_underscores_it_makes_one(admin: AdminClient) -> None:
    one, other = f"{OWN}.x_y", f"{OWN}_x.y"
    assert metric_name(one) == metric_name(other)
    assert makes(admin, one)
    assert not makes(admin, other)
