"""Aggregations over windows that slide with their records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any, cast

from kstream.codecs import ColumnError, copier
from kstream.codecs.windowed import stored_start
from kstream.errors import KStreamError
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, task_times
from kstream.operators.dropping import LATE, Dropping, Lines
from kstream.operators.emitting import check_results
from kstream.operators.late import LateTopic
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE
from kstream.specs.sliding import Kept, Sliding
from kstream.state.watermark import Watermark
from kstream.state.windows import WindowStore
from kstream.window_nodes import SlidingNode


class SlidingAggregate(Dropping, Closing):
    """Gives each record a result over the records of its key that have come by then, of the time up to its own.

    Records are kept in parts of time, an entry of the store for each part and key, so that a record writes a part of a
    window's records anew and not all. A part leaves when no record that is not late reaches back to it.
    """

    def __init__(
        self,
        node: SlidingNode,
        store: WindowStore[Any],
        key_codec: Any,
        lines: Lines,
        time: Watermark,
        check_every: int,
        late: LateTopic | None = None,
    ) -> None:
        """
        Args:
            key_codec: of the records.
            late: where records go that are too late.
        """
        super().__init__(lines)
        assert isinstance(node.windows, Sliding)
        self.store, self._result_of, self._keep = store, node.fold, node.keep
        self._reach, self._part, self._grace = node.windows.reach, node.windows.size, node.grace
        self._key_codec, self._value_codec, self._check_every = key_codec, node.value.codec, check_every
        self._copy = copier(node.kept.codec)
        self._time, self._late = time, late
        self._left: int | None = None  # parts that begin before have left; None: it is not known

    # ---- records

    def push(self, batch: Batch) -> None:
        if self.leaves_out:
            batch = batch.readable()
        batch, keys = self._sound(batch, self._key_codec)
        stamps = batch.timestamps
        parts = self._load(cast("list[bytes]", keys), stamps)
        results, out = self._results(batch, cast("list[bytes]", keys), parts)
        if out:
            mask = [index not in out for index in range(batch.size)]
            keys = [key for key, kept in zip(keys, mask, strict=True) if kept]
            stamps = [at for at, kept in zip(stamps, mask, strict=True) if kept]
            batch = batch.where(mask)
        own = [parts[at // self._part] + cast("bytes", key) for key, at in zip(keys, stamps, strict=True)]
        self.store.batch_keys = own
        self.store.changed(own)
        try:
            check_results(self.store.name, self._value_codec, results, self._check_every)
        except ColumnError as error:
            batch.blame(error.index)
            raise
        self.emit(batch.with_encoded_values(results, self._value_codec))

    def _load(self, keys: list[bytes], stamps: list[int]) -> dict[int, bytes]:
        """Brings the parts that windows reach back to into the store's memory. Returns how their keys begin."""
        reach, size = self._reach, self._part
        if not stamps:
            return {}
        numbers = range((min(stamps) - reach) // size, max(stamps) // size + 1)
        begins: dict[int, bytes] = {}
        wanted: list[bytes] = []
        if (
            len(numbers) <= 2 * reach // size + 2
        ):  # the batch is of a short time, as most are: some are asked for in vain
            begins = {number: stored_start(number * size) for number in numbers}
            wanted = [begin + key for key in set(keys) for begin in begins.values()]
        else:
            pairs = {
                (key, number)
                for key, at in zip(keys, stamps, strict=True)
                for number in range((at - reach) // size, at // size + 1)
            }
            begins = {number: stored_start(number * size) for _, number in pairs}
            wanted = [begins[number] + key for key, number in pairs]
        self.store.load(wanted)
        return begins

    def _results(
        self, batch: Batch, keys: list[bytes], begins: dict[int, bytes]
    ) -> tuple[list[bytes | None], set[int]]:
        """The results, encoded, and the indices of records that were left out."""
        times: Iterable[int] = task_times(batch, self._time.now)
        results: list[bytes | None] = []
        late, values = cast("list[int]", []), iter(batch.values)
        rest = zip(count(), keys, values, batch.timestamps, times)  # `count` has no end
        failed = self._without_failed(batch, values, lambda: self._rest(rest, begins, results, late))
        if late:
            self._too_late(batch, late)
        return results, {*late, *failed}

    def _rest(
        self, rest: Iterator[tuple[int, bytes, Any, int, int]], begins: dict[int, bytes], results: list[bytes | None],
        late: list[int],
    ) -> None:  # fmt: skip
        live, keep, copy, result_of, encode = (
            self.store.live, self._keep, self._copy, self._result_of, self._value_codec.encode,
        )  # fmt: skip
        reach, size, grace = self._reach, self._part, self._grace
        for index, key, value, at, now in rest:
            if at < now - grace:
                late.append(index)
                continue
            kept = copy(keep(value))
            first, last = (at - reach) // size, at // size
            window: list[Any] = []
            for number in range(first, last):
                part = live[begins[number] + key]
                if part is not None:
                    window += part.values if number > first else part.values[bisect_left(part.times, at - reach) :]
            own = live[begins[last] + key]
            place = 0
            if own is not None:
                place = bisect_right(own.times, at)
                window += own.values[:place]
            window.append(kept)
            result = result_of(window)
            if result is None:
                raise KStreamError(f"a function of {self.store.name!r} returned None: it returns the result")
            results.append(encode(result))
            if own is None:
                live[begins[last] + key] = Kept([at], [kept])
            else:
                own.times.insert(place, at)
                own.values.insert(place, kept)

    def _too_late(self, batch: Batch, indices: list[int]) -> None:
        self._left_out(LATE, len(indices))
        if self._late is not None:
            self._late.write_of(batch, indices, self._time.now, self._grace + 1)

    # ---- parts that leave

    def time_passed(self, origin: Origin | None) -> None:
        needed = self._time.now - self._grace - self._reach  # by the oldest record that is not late
        stop = (needed // self._part) * self._part
        if self._left is not None and stop <= self._left:
            return
        self._left = stop
        due = self.store.before(stored_start(stop))
        while entries := list(islice(due, AT_ONCE)):
            for key, _ in entries:
                self.store.delete(key)

    def closes_by(self, time: int) -> bool:
        """Nothing is told then: what may leave can wait for a commit."""
        return False

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        self.time_passed(None)
        super().flush()

    def take_back(self) -> bool:
        self._left = None
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._left = None
