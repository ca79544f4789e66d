"""A producer connects when it is made."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstream.runtime.kafka import KafkaClients, producer


class Client:
    """As librdkafka's where no broker answers at once."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        self.asked.append(timeout)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


@pytest.mark.parametrize("transactional_id", ["app-one-0", None])
def test_it_is_asked_for_something_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, transactional_id: str | None
) -> None:
    client = Client()
    monkeypatch.setattr(producer, "make", lambda kind, config: client)
    KafkaClients("127.0.0.1:1").producer(transactional_id)
    assert client.asked == [0]
