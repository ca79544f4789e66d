"""Aggregations whose accumulators expire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from kstream.operators.aggregate import Aggregate
from kstream.operators.batch import Batch
from kstream.state.timed import TimedStore


class TimedAggregate(Aggregate):
    """An `Aggregate` over a store with a TTL.

    By the wall clock a batch is one instant. In event time each record has its own, the largest that its task has seen
    up to it, so that how the input is cut does not show: a batch over more time than the TTL is folded in parts, within
    which a key that was written does not expire. So only the first record of a key in each part has to be asked.
    """

    _tells_accumulators = False  # their times would have to be known, too

    def push(self, batch: Batch) -> None:
        if self._timed.ttl.time == "wall" or batch.size < 2:
            super().push(batch)
            return
        times = self._times(batch)
        if not self._timed.ttl.expired(times[0], times[-1]):
            super().push(batch)
            return
        keys = batch.encoded_keys(self.store.key_codec)  # the parts have theirs from here
        try:
            for start, stop in self._parts(times):
                self._earlier = keys, start
                super().push(batch.cut(start, stop))
        finally:
            self._earlier = [], 0

    _earlier: tuple[Sequence[bytes | None], int] = [], 0  # keys of a batch that is cut, and where the part starts

    @property
    def _timed(self) -> TimedStore[Any]:
        return cast("TimedStore[Any]", self.store)

    def _times(self, batch: Batch) -> Sequence[int]:
        """At each record, in event time."""
        if batch.origin is None or batch.origin.timeless:
            return [self._timed.now] * batch.size
        return batch.of_rows(batch.origin.times)

    def _parts(self, times: Sequence[int]) -> Iterator[tuple[int, int]]:
        ttl, start = self._timed.ttl, 0
        for index, time in enumerate(times):
            if ttl.expired(times[start], time):
                yield start, index
                start = index
        yield start, len(times)

    def _times_of(self, batch: Batch) -> Sequence[int] | None:
        return None if self._timed.ttl.time == "wall" else self._times(batch)

    def _fold_column(self, batch: Batch, keys: list[bytes | None]) -> tuple[list[bytes | None] | None, list[int]]:
        times, store = self._times_of(batch), self._timed
        store.expire(keys, times)
        encoded, left_out = super()._fold_column(batch, keys)
        if left_out:
            out = set(left_out)
            kept = [index for index in range(batch.size) if index not in out]
            keys = [keys[index] for index in kept]
            times = None if times is None else [times[index] for index in kept]
        store.written(keys, times)
        return encoded, left_out

    def _goes_on(
        self, batch: Batch, keys: list[bytes | None], index: int, error: BaseException,
        encoded: list[bytes | None] | None, place: int | None,
    ) -> bool:  # fmt: skip
        """The accumulator was taken back; the next record of its key finds it as it is at its time. Taking back goes as
        far as the batch: where an earlier part has the key, what it did would be gone too."""
        key, (earlier, start) = keys[index], self._earlier
        if key in earlier[:start] or not super()._goes_on(batch, keys, index, error, encoded, place):
            return False
        times = self._times_of(batch)
        later = next((place for place in range(index + 1, len(keys)) if keys[place] == key), None)
        if later is not None:
            self._timed.expire([key], None if times is None else [times[later]])
        return True
