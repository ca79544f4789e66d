"""Aggregations over Kafka Streams' sliding windows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple, cast

from kstream.codecs import ColumnError, copier, encode_column
from kstream.codecs.windowed import START, StoredKeys, start_in, stored_start
from kstream.errors import CodecError, KStreamError
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, rows_at, task_times
from kstream.operators.dropping import LATE, Dropping, Lines
from kstream.operators.emitting import check_results
from kstream.operators.late import LateTopic
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE, NotEncoded, Teller, Telling, ToldOrigin
from kstream.specs.kafka_sliding import KafkaSliding, Recent
from kstream.specs.record import EPOCH_IS_NOW
from kstream.state.sliding import SlidingStore, Window, ends_between, values_until
from kstream.state.watermark import Watermark
from kstream.window_nodes import KafkaSlidingNode

_Row = tuple[int, bytes, Any, int, int]
"""Of a record: its index, key, value, time, and the time of the task."""


class _Told(NamedTuple):
    """Columns of what is emitted while a batch is folded."""

    indices: list[int]
    keys: list[bytes]
    starts: list[int]
    values: list[bytes | None]

    def add(self, index: int, key: bytes, starts: list[int], values: list[bytes]) -> None:
        self.indices.extend([index] * len(starts))
        self.keys.extend([key] * len(starts))
        self.starts.extend(starts)
        self.values.extend(values)


class KafkaSlidingAggregate(Dropping, Closing, Telling):
    """Gives each window of a key a result: of each set of records that are at most so far apart.

    A window closes when the time of the task is beyond its end and `grace`. A record is in all open windows around it.
    Where the one that ends with it is closed and no other has it, it is left out, and counted, as in Kafka Streams.

    What a window has follows from the records and from when each came, so a batch is not cut where windows close: they
    are told when it is through, in the order in which they closed. So how the input was cut does not show.

    Whatever `emit` says, a record is folded with those before it as it comes: where that fails it is to blame. When a
    window closes no record is.
    """

    def __init__(
        self,
        node: KafkaSlidingNode,
        store: SlidingStore,
        lines: Lines,
        time: Watermark,
        check_every: int,
        late: LateTopic | None = None,
    ) -> None:
        """`late`: where records go that are too late."""
        super().__init__(lines)
        self.store, self._result_of, self._keep = store, node.fold, node.keep
        assert isinstance(node.windows, KafkaSliding)
        self._emit, self._grace, self._apart = node.emit, node.grace, node.windows.difference
        self._key_codec, self._value_codec, self._check_every = node.key.codec, node.value.codec, check_every
        self._copy = copier(node.kept.codec)
        self._time, self._late = time, late
        self._over: int | None = None  # windows that end before (ms) are over; None: those of the last commit
        self._kept_over: int | None = None
        # "commit": windows that changed and were not told, by end and key, with the time of their last record
        self._changed_at: dict[bytes, int] = {}  # since the last commit: what was kept
        self._changed_now: dict[bytes, int] = {}  # the same since then
        self._told: dict[bytes, int] = {}  # of what was kept: what closed since then
        self._flushed: dict[bytes, int] | None = None  # what was kept, where it was told since
        what = f"the result of a window of {store.name!r}"
        self.teller = Teller(what, self._key_codec, by_key=node.emit == "commit")

    # ---- records

    def push(self, batch: Batch) -> None:
        store = self.store
        if self.leaves_out:
            batch = batch.readable()
        batch, keys = self._sound(batch, store.key_codec)
        store.batch_keys = keys
        store.load(keys)
        told = _Told([], [], [], []) if self._emit == "update" else None
        out = self._take_all(batch, cast("list[bytes]", keys), told)
        store.changed([key for index, key in enumerate(keys) if index not in out] if out else keys)
        if told is not None and told.indices:
            self._tell_updates(batch, told)

    def _take_all(self, batch: Batch, keys: list[bytes], told: _Told | None) -> set[int]:
        """Keeps the records. Returns the indices of those that were left out."""
        times: Iterable[int] = task_times(batch, self._time.now)
        late, values = cast("list[int]", []), iter(batch.values)
        rows = zip(count(), keys, values, batch.timestamps, times)  # `count` has no end
        failed = self._without_failed(batch, values, lambda: self._take(rows, told, late))
        if late:
            self._left_out(LATE, len(late))
            if self._late is not None:
                self._late.write_of(batch, late, self._time.now, self._grace + 1)
        return {*late, *failed}

    def _take(self, rows: Iterator[_Row], told: _Told | None, late: list[int]) -> None:
        live, keep, copy, look_at = self.store.live, self._keep, self._copy, self.store.look_at
        grace, apart, over = self._grace, self._apart, self._is_over()
        for index, key, value, at, now in rows:
            recent, open_from = live[key], max(now - grace, over)
            if recent is None:
                recent = Recent()
            elif recent.since and recent.since > open_from:
                open_from = recent.since
            if at < open_from and not _is_within(recent, at, open_from, apart):
                late.append(index)
                continue
            if not at and told is None:
                raise CodecError(f"the result of a window of {self.store.name!r}: {EPOCH_IS_NOW}")
            kept = copy(keep(value))
            place = bisect_right(recent.times, at)
            _insert(recent, place, at, kept, max(0, open_from - at))
            try:
                if told is None:
                    self._encoded(recent.values[bisect_left(recent.times, at - apart) : place + 1])
                    if self._emit == "commit":
                        changed = _changed(recent, place, open_from, apart)
                        self._changed_now.update((stored_start(end) + key, at) for end in changed)
                else:
                    ends = _changed(recent, place, open_from, apart)
                    values = [self._encoded(values_until(recent, end, apart)) for end in ends]
                    told.add(index, key, [end - apart for end in ends], values)
            except BaseException:
                _remove(recent, place)
                raise
            live[key] = recent
            look_at(key, max(at, open_from))

    def _encoded(self, window: list[Any]) -> bytes:
        return self._value_codec.encode(self._result(window))

    def _result(self, window: list[Any]) -> Any:
        result = self._result_of(window)
        if result is None:
            raise KStreamError(f"a function of {self.store.name!r} returned None: it returns the result")
        return result

    def _tell_updates(self, batch: Batch, told: _Told) -> None:
        try:
            check_results(self.store.name, self._value_codec, told.values, self._check_every)
        except ColumnError as error:
            batch.blame(told.indices[error.index])
            raise
        stamps = batch.timestamps
        self.emit(
            Batch(
                len(told.indices), self._key_codec, self._value_codec, origin=batch.origin,
                rows=None if batch.origin is None else [batch.row(index) for index in told.indices],
                raw_keys=StoredKeys(told.keys, told.starts), raw_values=told.values,
                timestamps=[stamps[index] for index in told.indices],
            )
        )  # fmt: skip

    # ---- windows that close

    def _is_over(self) -> int:
        if self._over is None:
            self._over = self._time.committed_now - self._grace
        return self._over

    def closes_by(self, time: int) -> bool:
        first = self.store.first_place()
        return first is not None and first + self._grace < time

    def time_passed(self, origin: Origin | None) -> None:
        over, before = self._is_over(), self._time.now - self._grace
        if before <= over:
            return
        for windows in self.store.over(before, AT_ONCE, over, self._apart):
            if self._emit == "close":
                self._tell(windows, [window.end for window in windows], origin)
            elif self._emit == "commit":
                self._tell_changed(windows, origin)
        self._over = before

    def _tell_changed(self, windows: Sequence[Window], origin: Origin | None) -> None:
        """Of windows that will not be there at the commit: those that changed."""
        now, before = self._changed_now, self._changed_at
        news: list[Window] = []
        stamps: list[int] = []
        for window in windows:
            place = stored_start(window.end) + window.key
            stamp = now.pop(place, None)
            if (earlier := before.pop(place, None)) is not None:
                self._told[place] = earlier
            stamp = earlier if stamp is None else stamp
            if stamp is not None:
                news.append(window)
                stamps.append(stamp)
        self._tell(news, stamps, origin)

    def _tell(self, windows: Sequence[Window], stamps: list[int], origin: Origin | None) -> None:
        if not windows:
            return
        codec, beyond = self._value_codec, self._grace + 1
        rows = rows_at(origin, (window.end + beyond for window in windows))

        def keys_of(some: Sequence[Window]) -> StoredKeys:
            return StoredKeys([window.key for window in some], [window.end - self._apart for window in some])

        def raw(place: int) -> bytes:
            result: Any = windows[place].values
            try:
                result = self._result(result)
                return codec.encode(result)
            except KeyboardInterrupt:
                raise
            except BaseException:  # the user's function may be what fails
                raise NotEncoded(result) from None

        def push(told: ToldOrigin, places: Sequence[int]) -> None:
            some, results = [windows[place] for place in places], []
            for place in places:
                told.at_fault = place
                results.append(self._result(windows[place].values))
            told.at_fault = None
            try:
                encoded = encode_column(codec, results, self._check_every)
            except ColumnError as error:
                told.at_fault = places[error.index]
                raise
            self.emit(
                Batch(
                    len(some), self._key_codec, codec, origin=told, rows=places, raw_keys=keys_of(some),
                    raw_values=encoded, timestamps=[stamps[place] for place in places],
                )
            )  # fmt: skip

        self.teller.tell(keys_of(windows), raw, stamps, origin, rows, push)

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        self.time_passed(None)  # records that were left out moved time too, and idle inputs
        if self._changed_at or self._changed_now:
            changed = iter((self._changed_at | self._changed_now).items())
            self._flushed, self._changed_at, self._changed_now = self._changed_at, {}, {}
            while some := dict(islice(changed, AT_ONCE)):
                self.store.load({place[START:] for place in some})
                self._tell([self._window(place) for place in some], list(some.values()), None)
        super().flush()

    def _window(self, place: bytes) -> Window:
        end, key = start_in(place), place[START:]
        return Window(end, key, values_until(cast("Recent[Any]", self.store.live[key]), end, self._apart))

    def keep(self) -> None:
        super().keep()
        self._changed_at.update(self._changed_now)
        self._changed_now, self._told, self._flushed = {}, {}, None
        self._kept_over = self._over

    def take_back(self) -> bool:
        if self._flushed is not None:
            self._changed_at, self._flushed = self._flushed, None
        self._changed_at |= self._told
        self._changed_now, self._told = {}, {}
        self._over = self._kept_over
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._forget()
        self._over = self._kept_over = None

    def _forget(self) -> None:
        self._changed_at, self._changed_now, self._told, self._flushed = {}, {}, {}, None


def _is_within(recent: Recent[Any], at: int, open_from: int, apart: int) -> bool:
    """Whether an open window has this time (ms), the one that ends with it being closed: that behind a record before
    it, or one that ends with a record after it."""
    times = recent.times
    first = bisect_left(times, open_from - apart - 1)
    if first < len(times) and times[first] < at:
        return True
    first = bisect_left(times, open_from)
    return first < len(times) and times[first] <= at + apart


def _insert(recent: Recent[Any], place: int, at: int, kept: Any, late: int) -> None:
    if late and not recent.late:
        recent.late = [0] * len(recent.times)
    if recent.late or late:
        recent.late.insert(place, late)
    recent.times.insert(place, at)
    recent.values.insert(place, kept)


def _remove(recent: Recent[Any], place: int) -> None:
    """What `_insert` did."""
    del recent.times[place]
    del recent.values[place]
    if recent.late:
        del recent.late[place]
        if not any(recent.late):
            recent.late = []


def _changed(recent: Recent[Any], place: int, open_from: int, apart: int) -> list[int]:
    """When those windows end that the record there has changed, or made, in their order."""
    times = recent.times
    at = times[place]
    ends = ends_between(recent, max(at, open_from), at + apart + 1, apart)
    before, after = times[place - 1 : place], times[place + 1 : place + 2]
    if [at] not in (before, after) and values_until(recent, behind := at + apart + 1, apart):
        # that which begins behind it is new, unless another one made it
        row = bisect_left(times, behind)
        if not any(one == behind and not (recent.late and recent.late[row]) for one in times[row : row + 1]):
            ends.append(behind)
    return ends
