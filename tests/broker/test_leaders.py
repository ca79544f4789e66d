"""Questions to the leaders of partitions: librdkafka may not be asked while it does not know them."""

from __future__ import annotations

import uuid
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from kstream.runtime.cluster.regroup import answer
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.kafka import asking as adapter
from kstream.types import NewTopic, TopicPartition


@pytest.fixture
def at(bootstrap_servers: str) -> TopicPartition:
    at = TopicPartition(f"leaders-{uuid.uuid4().hex[:8]}", 0)
    admin = KafkaClients(bootstrap_servers).admin()
    admin.create_topics([NewTopic(at.topic, 1, 1)], 60)
    answer(lambda: admin.end_offsets([at]), "the end")  # shortly after a topic was made its leader may not lead yet
    admin.close()
    return at


def test_leaders_are_known_before_they_are_asked(
    bootstrap_servers: str, at: TopicPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that restored its first tasks on a busy machine ended with a segmentation fault: its thread looked up
    the leaders and librdkafka's own answered and freed the question meanwhile."""
    calls: list[str] = []
    described: list[Future[Any]] = []

    def note(call: str) -> None:
        calls.append(call if described and all(each.done() for each in described) else f"{call} too early")

    class Noted(AdminClient):
        def describe_topics(self, *args: Any, **more: Any) -> Any:
            asked = super().describe_topics(*args, **more)
            described.extend(asked.values())
            return asked

        def list_offsets(self, *args: Any, **more: Any) -> Any:
            note("list_offsets")
            return super().list_offsets(*args, **more)

        def delete_records(self, *args: Any, **more: Any) -> Any:
            note("delete_records")
            return super().delete_records(*args, **more)

    monkeypatch.setattr(adapter, "AdminClient", Noted)
    admin = KafkaClients(bootstrap_servers).admin()
    assert admin.end_offsets([at]).result(60) == admin.start_offsets([at]).result(60) == {at: 0}
    assert (calls, len(described)) == (["list_offsets", "list_offsets"], 1)
    admin.close()
    calls.clear()
    described.clear()
    other = KafkaClients(bootstrap_servers).admin()
    other.delete_records({at: 0}).result(60)
    assert (calls, len(described)) == (["delete_records"], 1)
    other.close()
