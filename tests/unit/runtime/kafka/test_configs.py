"""Settings of topics, where the broker that is asked has just died."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka import KafkaClients, KafkaOptions, asking, configs


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[AdminClient]:
    """Those that were made. The first one waits for a broker that is gone, and gets no answer."""
    made: list[AdminClient] = []

    class Client(AdminClient):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            made.append(self)

        def describe_configs(self, resources: Iterable[Any], **_: Any) -> dict[Any, Future[Any]]:  # type: ignore[override]
            asked: dict[Any, Future[Any]] = {resource: Future() for resource in resources}
            if self is not made[0]:
                for future in asked.values():
                    future.set_result({"retention.ms": SimpleNamespace(value="5")})
            return asked

    monkeypatch.setattr(asking, "AdminClient", Client)
    monkeypatch.setattr(configs, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(configs, "LEAST_SECONDS", 0.05)
    return made


def test_they_are_asked_for_again_through_a_new_client(clients: list[AdminClient]) -> None:
    """Found by `make verify`: an instance that began as one of three brokers died ended with status 2. librdkafka keeps
    to the broker that it first heard of as the controller."""
    admin = KafkaClients("127.0.0.1:1", KafkaOptions()).admin()
    assert admin.topic_configs(["t"], 30.0) == {"t": {"retention.ms": "5"}}
    assert len(clients) == 2
    admin.close()


def test_in_time(clients: list[AdminClient]) -> None:
    admin = KafkaClients("127.0.0.1:1", KafkaOptions()).admin()
    with pytest.raises(KafkaUnavailable, match="settings of topics t: _TIMED_OUT"):
        admin.topic_configs(["t"], 0.05)
    assert len(clients) == 1
    admin.close()
