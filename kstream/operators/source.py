"""The start of a chain: a fetch becomes a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kstream.codecs import decode_column, is_nullable
from kstream.operators.base import Operator
from kstream.operators.batch import Batch, Origin
from kstream.operators.bounds import UNBOUNDED, check_values
from kstream.specs.topic import Topic
from kstream.types import Fetch


class Source(Operator):
    """`most`: bytes that key, value and headers of a record may have."""

    def __init__(self, topic: Topic[Any, Any], most: int = UNBOUNDED) -> None:
        super().__init__()
        self.topic, self._most = topic, most
        self.origin: Origin | None = None  # of the fetch that was pushed last

    @property
    def at_fault(self) -> int | None:
        """The row of the fetch that was pushed last on which something failed, where that is known."""
        return None if self.origin is None else self.origin.at_fault

    def timestamps(self, fetch: Fetch) -> list[int]:
        """Event times in ms, without a batch: what inputs are ordered by."""
        topic = self.topic
        if topic.timestamp is None:
            return fetch.timestamps()
        return self._event_times(decode_column(topic.value.codec, self._values(fetch)), fetch)

    def push_fetch(self, fetch: Fetch) -> None:
        topic = self.topic
        self.origin = origin = Origin(fetch, most=self._most)
        raw = self._values(fetch)
        batch = Batch(len(fetch), topic.key.codec, topic.value.codec, origin=origin, raw_values=raw)
        if topic.timestamp is not None:
            values = iter(batch.values)
            try:
                self.origin = batch.origin = Origin(fetch, self._event_times(values, fetch), self._most)
            except BaseException:
                batch.blame_last(values)
                raise
        self.emit(batch)

    def _values(self, fetch: Fetch) -> list[bytes | None]:
        values = fetch.values()
        check_values(fetch, values, self._most)
        return values

    def _event_times(self, values: Iterable[Any], fetch: Fetch) -> list[int]:
        """Those of the values; a tombstone has that of its record."""
        time_of: Any = self.topic.timestamp
        if not is_nullable(self.topic.value.codec):
            return list(map(time_of, values))
        pairs = zip(values, fetch.timestamps(), strict=True)
        return [own if value is None else time_of(value) for value, own in pairs]
