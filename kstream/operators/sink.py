"""`.to(topic)`: the end of a chain."""

from __future__ import annotations

from typing import Any

from kstream.codecs import SAMPLE, ColumnError
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.writer import Writer
from kstream.specs.topic import Topic


class Sink(Operator):
    """Encodes the columns for its topic (columns already encoded by its codecs pass as they are), and compares one of
    `check_every` values with what a reader gets."""

    traceless = True

    def __init__(self, topic: Topic[Any, Any], writer: Writer, order: int, check_every: int = SAMPLE) -> None:
        super().__init__()
        self._check_every = check_every
        self.topic, self.writer, self.order = topic, writer, order

    def push(self, batch: Batch) -> None:
        topic = self.topic
        self.emitted += batch.size
        try:
            values = batch.encoded_values(topic.value.codec, self._check_every)
            keys = batch.encoded_keys(topic.key.codec)
        except ColumnError as error:
            batch.blame(error.index)
            raise ColumnError(f"topic {topic.name!r}: {error}", error.index) from error.__cause__ or error
        self.writer.column(self.order, batch, topic.name, values, keys)
