"""`.to(function)`: the topic is chosen record by record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstream.codecs import SAMPLE
from kstream.errors import KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.sink import Sink
from kstream.operators.stateless import apply
from kstream.operators.writer import Writer
from kstream.specs.schema import Schema
from kstream.specs.topic import Topic


class Route(Operator):
    """A sink for each topic that was chosen."""

    def __init__(
        self,
        function: Callable[..., Any],
        cursor: Cursor | None,
        key: Schema,
        value: Schema,
        writer: Writer,
        order: int,
        check_every: int = SAMPLE,
    ) -> None:
        super().__init__()
        self._function, self._cursor = function, cursor
        self._key, self._value = key, value
        self._writer, self._order, self._check_every = writer, order, check_every
        self._sinks: dict[Topic[Any, Any], Sink] = {}

    def push(self, batch: Batch) -> None:
        batch, chosen = apply(self._function, self._cursor, batch)
        self.emitted += batch.size
        rows: dict[Topic[Any, Any], list[int]] = {}
        for index, topic in enumerate(chosen):
            if topic.__class__ is not Topic:
                batch.blame(index)
                raise KStreamError(f"to: the function chose {topic!r}, which is no topic: return what app.topic() gave")
            rows.setdefault(topic, []).append(index)
        for topic, indices in rows.items():
            mask = [False] * batch.size
            for index in indices:
                mask[index] = True
            self._sink(topic, batch, indices[0]).push(batch.where(mask))

    def _sink(self, topic: Topic[Any, Any], batch: Batch, first: int) -> Sink:
        sink = self._sinks.get(topic)
        if sink is None:
            for side, have, want in (("key", self._key, topic.key), ("value", self._value, topic.value)):
                if not want.accepts(have):
                    batch.blame(first)
                    raise KStreamError(
                        f"to: the function chose topic {topic.name!r}, which is declared {side}={want}, for {side}s of "
                        f"type {have}"
                    )
            sink = self._sinks[topic] = Sink(topic, self._writer, self._order, self._check_every)
        return sink
