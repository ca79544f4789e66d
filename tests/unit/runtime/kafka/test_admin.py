"""Answers of the admin client that are none."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka import KafkaClients, KafkaOptions, asking
from kstream.types import TopicPartition

AT = TopicPartition("orders", 4)


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


@pytest.mark.parametrize(
    ("call", "offset", "others"),
    [
        ("start_offsets", -1001, []), ("start_offsets", -1, []), ("end_offsets", -1001, []), ("end_offsets", -1, []),
        ("offsets_at", -1001, [1_700_000_000_000]),
    ],
)  # fmt: skip
def test_an_offset_that_is_none_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, call: str, offset: int, others: list[int]
) -> None:
    """Found by `make verify`: while a leader moved, librdkafka answered with -1001 and no error for the start and for
    the end. The committed offset lay "beyond the end", the input was read from its start once more, and its records
    counted twice."""
    made: list[AdminClient] = []
    told = [offset, 2911]

    class Client(AdminClient):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            made.append(self)

        def describe_topics(self, topics: Any, **_: Any) -> dict[str, Future[Any]]:
            return {"orders": done(SimpleNamespace())}

        def list_offsets(self, partitions: Iterable[Any], **_: Any) -> dict[Any, Future[Any]]:
            return {at: done(SimpleNamespace(offset=told.pop(0))) for at in partitions}

    monkeypatch.setattr(asking, "AdminClient", Client)
    admin = KafkaClients("127.0.0.1:1", KafkaOptions()).admin()
    with pytest.raises(KafkaUnavailable, match=r"orders\[4\] is not told"):
        getattr(admin, call)([AT], *others).result(60)
    assert getattr(admin, call)([AT], *others).result(60) == {AT: 2911}
    assert len(made) == 2, "the client that did not know is asked again"
    admin.close()
