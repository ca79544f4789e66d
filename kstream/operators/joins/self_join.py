"""A stream joined with itself: a record is kept once, and found as one of the left and as one of the right."""

from __future__ import annotations

from typing import Any

from kstream.codecs import holds_none
from kstream.codecs.buffered import Kept
from kstream.operators.base import Push
from kstream.operators.batch import Batch
from kstream.operators.closing import task_times
from kstream.operators.dropping import LATE, NO_VALUE
from kstream.operators.joins.sides import Results
from kstream.operators.joins.stream_stream import StreamStreamJoin
from kstream.operators.told import AT_ONCE


class SelfJoin(StreamStreamJoin):
    """An inner join. Results are those of two sides that each keep all records, in the same order: of a record first
    what it finds as one of the left, then, itself among them, as one of the right.

    Both sides have one store. It keeps a record for as long as the side does that needs it longer; the other one does
    not look so far back. (Kafka Streams' self-join optimization, KAFKA-14209.)
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        left, right = self._left, self._right
        self._alike = (left.back, left.ahead, left.open_for) == (right.back, right.ahead, right.open_for)
        self._sides = (max(left, right, key=lambda side: side.open_for),)  # by which records leave

    def input(self, place: int) -> Push:
        return self.push

    def push(self, batch: Batch) -> None:
        values = batch.values  # all are decoded, found or not: one that cannot be read fails here
        if holds_none(batch.value_codec) and None in values:
            batch = self._without(batch, values, NO_VALUE)
        batch, keys = self._keyed(batch, self.key_codec)
        if not batch.size:
            return
        left, right, origin = self._left, self._right, batch.origin
        times = task_times(batch, self._watermark.now)
        lefts = self._prepared(left, batch, keys, times)
        rights = lefts if self._alike else self._prepared(right, batch, keys, times)
        results, (side,) = Results(), self._sides
        for one, (_, _, _, _, right_until, _, _, _, right_low, right_high, right_asked, _) in zip(
            lefts, rights, strict=True
        ):
            _, row, at, now, until, key, value, raw, low, high, asked, place = one
            found = [(left, kept) for kept in self._found(left, low, high, asked)]
            is_late = until < now and right_until < now
            if not is_late:
                side.put(place, Kept(at, True, raw))
            found += [(right, kept) for kept in self._found(right, right_low, right_high, right_asked)]
            if is_late and not found:
                self._left_out(LATE, 1)
            for number, (mine, kept) in enumerate(found):
                own = side.codec.decode(raw) if number else value  # a value of its own for each: a joiner may change it
                results.add(mine, row, key, own, self._read(mine.other, kept.raw), max(at, kept.at))
                if len(results.keys) >= AT_ONCE:
                    self._emit(results, origin)
        side.tell()
        self._emit(results, origin)
