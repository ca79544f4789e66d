"""`.to(function)`: the topic is chosen record by record."""

from __future__ import annotations

from typing import Any, NoReturn

from kstream.codecs import SAMPLE
from kstream.errors import KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.sink import Sink
from kstream.operators.stateless import apply
from kstream.operators.writer import Writer
from kstream.specs.schema import told_apart
from kstream.specs.topic import Topic
from kstream.topology import RouteNode


class Route(Operator):
    """A sink for each topic that was chosen."""

    traceless = True

    def __init__(
        self, node: RouteNode, cursor: Cursor | None, writer: Writer, order: int, check_every: int = SAMPLE
    ) -> None:
        super().__init__()
        self._node, self._cursor = node, cursor
        self._writer, self._order, self._check_every = writer, order, check_every
        self._sinks: dict[Topic[Any, Any], Sink] = {}

    def push(self, batch: Batch) -> None:
        batch, chosen = apply(self._node.function, self._cursor, batch)
        self.emitted += batch.size
        rows: dict[Any, list[int]] = {}
        for index, topic in enumerate(chosen):
            if topic.__class__ is not Topic:
                self._refuse(batch, index, f"{topic!r}, which is no topic: return what app.topic() gave")
            rows.setdefault(topic, []).append(index)
        for topic, indices in rows.items():
            chosen_here = set(indices)
            self._sink(topic, batch, indices[0]).push(batch.where([n in chosen_here for n in range(batch.size)]))

    def _sink(self, topic: Topic[Any, Any], batch: Batch, first: int) -> Sink:
        sink, node = self._sinks.get(topic), self._node
        if sink is None:
            if node.topics.get(topic.name) is not topic:
                self._refuse(batch, first, f"topic {topic.name!r}, which is not the app's: declare it there")
            for side, have, want in (("key", node.key, topic.key), ("value", node.value, topic.value)):
                if not want.accepts(have):
                    one, other = told_apart(have.kind, want.kind)
                    what = f"topic {topic.name!r}, which is declared {side}={other}, for {side}s of type {one}"
                    self._refuse(batch, first, what)
            sink = self._sinks[topic] = Sink(topic, self._writer, self._order, self._check_every)
        return sink

    def _refuse(self, batch: Batch, index: int, what: str) -> NoReturn:
        batch.blame(index)
        raise KStreamError(f"to: the function chose {what}")
