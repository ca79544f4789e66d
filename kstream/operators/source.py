"""The start of a chain: a fetch becomes a batch."""

from __future__ import annotations

from typing import Any

from kstream.codecs import decode_column
from kstream.operators.base import Operator
from kstream.operators.batch import Batch, Origin
from kstream.specs.topic import Topic
from kstream.types import Fetch


class Source(Operator):
    def __init__(self, topic: Topic[Any, Any]) -> None:
        super().__init__()
        self.topic = topic

    def timestamps(self, fetch: Fetch) -> list[int]:
        """Event times in ms, without a batch: what inputs are ordered by."""
        topic = self.topic
        if topic.timestamp is None:
            return fetch.timestamps()
        return list(map(topic.timestamp, decode_column(topic.value.codec, fetch.values())))

    def push_fetch(self, fetch: Fetch) -> None:
        topic = self.topic
        batch = Batch(
            len(fetch), topic.key.codec, topic.value.codec, origin=Origin(fetch), raw_values=fetch.values()
        )  # fmt: skip
        if topic.timestamp is not None:
            batch.origin = Origin(fetch, list(map(topic.timestamp, batch.values)))
        self.emit(batch)
