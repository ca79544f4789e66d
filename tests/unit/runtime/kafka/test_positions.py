"""Positions that are not numbers yet."""

from __future__ import annotations

import confluent_kafka
import pytest

from kstream.runtime.kafka.positions import absolute
from kstream.runtime.kafka.problems import Trouble
from kstream.types import BEGINNING, END, TopicPartition

AT = TopicPartition("orders", 4)


@pytest.mark.parametrize("wanted", [BEGINNING, END])
def test_what_the_client_does_not_know_stays_what_it_is(wanted: int) -> None:
    told = [(-1001, -1001), (7, 2911)]

    class Consumer(confluent_kafka.Consumer):
        def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
            return told.pop(0)

    consumer = Consumer({"group.id": "g", "bootstrap.servers": "127.0.0.1:1"})
    trouble = Trouble("consumer")
    assert absolute(consumer, trouble, {AT: wanted}) == {AT: wanted}
    assert absolute(consumer, trouble, {AT: wanted}) == {AT: 7 if wanted == BEGINNING else 2911}
    consumer.close()
