"""Records that are too late for their windows, kept in a topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kstream.codecs import SAMPLE, ColumnError
from kstream.operators.batch import Batch
from kstream.operators.closing import task_times
from kstream.operators.dropping import refuse_epoch
from kstream.operators.writer import AFTER_ALL, Writer
from kstream.specs.topic import Topic

HEADER: Final = "kstream.late.by"
"""How many ms before, in the time of the task, the last window of the record had closed: decimal digits."""


class LateTopic:
    """Writes such records to their topic, in the transaction: key, value and timestamp as they are, and the headers of
    the input record with one more."""

    def __init__(self, topic: Topic[Any, Any], writer: Writer, order: int, check_every: int = SAMPLE) -> None:
        self._topic, self._writer, self._order, self._check_every = topic, writer, order, check_every

    def write_of(self, batch: Batch, indices: Sequence[int], now: int, wait: int) -> None:
        """These records of a batch.

        Args:
            now: the time of the task.
            wait: so many ms after its time a record is late.

        Raises:
            ColumnError: one cannot be written.
        """
        mask = [False] * batch.size
        for index in indices:
            mask[index] = True
        late = batch.where(mask)
        times = zip(task_times(late, now), late.timestamps, strict=True)
        self.write(late, [time - at - wait for time, at in times])

    def write(self, batch: Batch, by: Sequence[int]) -> None:
        """Raises ColumnError where one cannot be written."""
        topic, origin = self._topic, batch.origin
        try:
            values = batch.encoded_values(topic.value.codec, self._check_every)
            keys = batch.encoded_keys(topic.key.codec)
        except ColumnError as error:
            batch.blame(error.index)
            raise ColumnError(f"topic {topic.name!r}: {error}", error.index) from error.__cause__ or error
        if 0 in batch.timestamps:
            refuse_epoch(batch, batch.timestamps.index(0), topic.name)
        for index, (value, key, at, ms) in enumerate(zip(values, keys, batch.timestamps, by, strict=True)):
            place = AFTER_ALL if origin is None else batch.place(index)
            own = () if origin is None else origin.headers[batch.row(index)] or ()
            headers = [*(one for one in own if one[0] != HEADER), (HEADER, str(ms).encode())]
            cause = batch.cause(index)
            self._writer.one(self._order, place, topic.name, value, key, at, headers, -1, cause)
