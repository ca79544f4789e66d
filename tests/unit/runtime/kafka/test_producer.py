"""What a producer makes of a fencing."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from kstream.errors import InstanceFenced, ProducerLost
from kstream.runtime.kafka import KafkaOptions, producer
from kstream.runtime.kafka.producer import KafkaProducer

SECONDS = 60.0
FENCED = KafkaException(KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "fenced", True))
PASSED = 1000.0


class Client(confluent_kafka.Producer):
    """All goes well."""

    def begin_transaction(self) -> None: ...
    def commit_transaction(self, *_: Any) -> None: ...
    def abort_transaction(self, *_: Any) -> None: ...
    def produce(self, *_: Any, **__: Any) -> None: ...


@pytest.mark.parametrize(
    ("first", "kind", "text"),
    [("abort", ProducerLost, "the transaction may have been open for"), ("commit", InstanceFenced, "as me")],
)
def test_after_an_abort_the_age_is_that_of_what_was_aborted(
    monkeypatch: pytest.MonkeyPatch, first: str, kind: type[Exception], text: str
) -> None:
    """It may be open still: then the broker counts from its first record, and fences who goes on with it."""
    monkeypatch.setattr(confluent_kafka, "Producer", Client)
    one = KafkaProducer("127.0.0.1:1", KafkaOptions(transaction_timeout=PASSED), "me")
    one.begin()
    one.produce("t", b"v", b"k")
    getattr(one, first)(SECONDS)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + PASSED, sleep=time.sleep, time=time.time)
    monkeypatch.setattr(producer, "time", clock)
    one.begin()
    one.produce("t", b"v", b"k")
    meant = one.meaning(FENCED, "t", b"v", b"k", -1)
    assert type(meant) is kind
    assert text in str(meant)
    one.close()
