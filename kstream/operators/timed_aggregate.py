"""Aggregations whose accumulators expire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
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

    def push(self, batch: Batch) -> None:
        if self._timed.ttl.time == "wall" or batch.size < 2:
            super().push(batch)
            return
        for part in self._parts(batch, self._times(batch)):
            super().push(part)

    @property
    def _timed(self) -> TimedStore[Any]:
        return cast("TimedStore[Any]", self.store)

    def _times(self, batch: Batch) -> Sequence[int]:
        """At each record, in event time."""
        origin, rows = batch.origin, batch.rows
        if origin is None:
            return [self._timed.now] * batch.size
        return origin.times if rows is None else [origin.times[row] for row in rows]

    def _parts(self, batch: Batch, times: Sequence[int]) -> Iterator[Batch]:
        ttl = self._timed.ttl
        if not ttl.expired(times[0], times[-1]):
            yield batch
            return
        start = 0
        for index, time in enumerate(times):
            if ttl.expired(times[start], time):
                yield batch.cut(start, index)
                start = index
        yield batch.cut(start, batch.size)

    def _times_of(self, batch: Batch) -> Sequence[int] | None:
        return None if self._timed.ttl.time == "wall" else self._times(batch)

    def _fold_column(self, batch: Batch, keys: list[bytes | None]) -> tuple[list[bytes | None] | None, list[int]]:
        times, store = self._times_of(batch), self._timed
        store.expire(keys, times)
        encoded, left_out = super()._fold_column(batch, keys)
        if left_out:
            kept = [index for index in range(batch.size) if index not in set(left_out)]
            keys = [keys[index] for index in kept]
            times = None if times is None else [times[index] for index in kept]
        store.written(keys, times)
        return encoded, left_out

    def _goes_on(self, batch: Batch, keys: list[bytes | None], index: int, error: BaseException) -> bool:
        """The accumulator was taken back; the next record of its key finds it as it is at its time."""
        if not super()._goes_on(batch, keys, index, error):
            return False
        key, times = keys[index], self._times_of(batch)
        later = next((place for place in chain(range(index + 1, len(keys))) if keys[place] == key), None)
        if later is not None:
            self._timed.expire([key], None if times is None else [times[later]])
        return True
