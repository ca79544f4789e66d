"""Aggregations over windows of event time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, cast

from kstream.codecs.windowed import START, StoredKeys, start_in, stored_start
from kstream.errors import CodecError
from kstream.operators.aggregate import Aggregate
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, rows_at, task_times
from kstream.operators.dropping import LATE, Lines
from kstream.operators.late import LateTopic
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE
from kstream.specs.record import EPOCH_IS_NOW
from kstream.specs.windows import Windows
from kstream.state.watermark import Watermark
from kstream.state.windows import WindowStore
from kstream.topology import Emit


class WindowedAggregate(Aggregate, Closing):
    """An `Aggregate` with an accumulator for each window of a key.

    A window closes when the time of the task has come to its end and `grace` ms more (Flink's allowed lateness, Kafka
    Streams' grace): its accumulators leave the store. With emit="close" they are its results, each with the last ms of
    the window as its time, as in Flink. A record for whose windows it is too late is left out, and counted.

    The time of the task (state/watermark.py) is told for each record, and a batch is cut where windows close: what
    falls due before a record's time is done before that record, so that how the input was cut does not show.
    """

    _what = "the result of a window of"

    def __init__(
        self,
        store: WindowStore[Any],
        initial: Callable[[], Any],
        fold: Callable[..., Any],
        cursor: Cursor | None,
        *,
        emit: Emit,
        lines: Lines,
        key_codec: Any,
        windows: Windows,
        grace: int,
        time: Watermark,
        late: LateTopic | None = None,
    ) -> None:
        """`grace`: ms after the end of a window until it closes. `late`: where records go that are too late."""
        super().__init__(store, initial, fold, cursor, every_update=emit == "update", lines=lines)
        self._windows_of, self._key_codec, self._grace, self._time = windows, key_codec, grace, time
        self._emit_closed, self._late = emit == "close", late
        self._tells_last = self.teller.by_key = emit == "commit"
        # of a window whose result would have a time that cannot be written, if there is one
        self._refused = next((start for start in windows.starts(0) if windows.end_of(start) == 1), None)
        if not self._emit_closed:
            self._refused = None
        self._closed: int | None = None  # windows that begin before are closed; None: not known since a restart
        self._kept_closed: int | None = None
        self._told: dict[bytes, int] = {}  # of what was kept: what this batch has told, since it closed

    # ---- records

    def push(self, batch: Batch) -> None:
        if self.leaves_out:
            batch = batch.readable()
        batch, keys = self._sound(batch, self._key_codec)  # others are in no window, so they are neither late nor twice
        times = task_times(batch, self._time.now)
        for start, stop, moment in self._runs(times):
            self._reach(moment, batch.origin)
            cut = stop - start < batch.size
            part = batch.cut(start, stop) if cut else batch
            self._into_windows(part, cast("list[bytes]", keys[start:stop] if cut else keys), moment[0])

    def _runs(self, times: Sequence[int]) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Parts of a batch within which nothing falls due, each with what fell due by then."""
        if not times:
            return
        if (moment := self._moment(times[0])) == self._moment(times[-1]):
            yield 0, len(times), moment
            return
        start = 0
        for moment, run in groupby(map(self._moment, times)):
            stop = start + sum(1 for _ in run)
            yield start, stop, moment
            start = stop

    def _moment(self, time: int) -> tuple[int, int]:
        """What is due at this time: windows that begin before the first of these two are closed. (The other is for
        classes that tell something else.)"""
        return self._windows_of.open_from(time - self._grace), 0

    def _reach(self, moment: tuple[int, int], origin: Origin | None) -> None:
        """Does what is due by then."""
        self._close(moment[0], origin)

    def _into_windows(self, batch: Batch, keys: list[bytes], first: int) -> None:
        """Folds the records into their windows, of those that begin at `first` or later."""
        windows = self._windows_of
        if windows.apart:
            stamps = batch.timestamps
            if stamps and first <= (start := windows.last_start(min(stamps))) and windows.end_of(start) > max(stamps):
                self._fold_into(batch, keys, start)  # all are in one window, as those of most batches
                return
            starts = windows.starts_of(stamps)
            if starts and min(starts) < first:
                open_ = [start >= first for start in starts]
                self._too_late(batch, open_)
                batch = batch.where(open_)
                keys = [key for key, kept in zip(keys, open_, strict=True) if kept]
                starts = [start for start, kept in zip(starts, open_, strict=True) if kept]
        else:
            of_each = windows.starts_after(first - 1, batch.timestamps)
            if [] in of_each:
                self._too_late(batch, of_each)
            counts = list(map(len, of_each))
            batch = batch.spread(counts)
            keys = [key for key, count in zip(keys, counts, strict=True) for _ in range(count)]
            starts = [start for some in of_each for start in some]
        if starts:
            self._fold_into(batch, keys, starts)

    def _fold_into(self, batch: Batch, keys: list[bytes], starts: list[int] | int) -> None:
        if self._refused is not None:
            of_each = [starts] if isinstance(starts, int) else starts
            if self._refused in of_each:
                batch.blame(of_each.index(self._refused))
                raise CodecError(f"the result of a window of {self.store.name!r}, when it closes: {EPOCH_IS_NOW}")
        super().push(batch.with_encoded_keys(StoredKeys(keys, starts), self.store.key_codec))

    def _too_late(self, batch: Batch, open_: Sequence[Any]) -> None:
        """Of these records those for which no window is open."""
        late = batch.where([not windows for windows in open_])
        self._left_out(LATE, late.size)
        if self._late is not None:
            windows, grace = self._windows_of, self._grace
            times = zip(task_times(late, self._time.now), late.timestamps, strict=True)
            self._late.write(late, [now - windows.end_of(windows.last_start(at)) - grace for now, at in times])

    # ---- windows

    def time_passed(self, origin: Origin | None) -> None:
        """A batch is through, whether or not some of it came here; or time went on by itself."""
        self._reach(self._moment(self._time.now), origin)

    def closes_by(self, time: int) -> bool:
        first = cast("WindowStore[Any]", self.store).first()
        return first is not None and self._windows_of.end_of(start_in(first)) + self._grace <= time

    def _close(self, first: int, origin: Origin | None) -> None:
        """Closes the windows that begin before. What they emit is caused by the records that moved time there."""
        if self._closed is not None and first <= self._closed:
            return
        self._closed = first
        store = cast("WindowStore[Any]", self.store)
        due = store.before(stored_start(first))
        now, before = self._changed_now, self._changed_at
        while entries := list(islice(due, AT_ONCE)):
            for key, _ in entries:
                store.delete(key)
            if self._emit_closed:
                last = {key[:START]: self._windows_of.end_of(start_in(key)) - 1 for key, _ in entries}
                stamps = [last[key[:START]] for key, _ in entries]
            else:  # "commit": what was not told yet is told now, for it will not be there at the commit
                entries = [entry for entry in entries if entry[0] in now or entry[0] in before]
                stamps = [now[key] if key in now else before[key] for key, _ in entries]
            if entries:
                keys, raw = [key for key, _ in entries], [raw for _, raw in entries]
                self._tell(keys, raw, stamps, origin, self._rows(keys, origin))
            for key, _ in () if self._emit_closed else entries:
                now.pop(key, None)
                if key in before:
                    self._told[key] = before.pop(key)

    def _rows(self, keys: Sequence[bytes], origin: Origin | None) -> list[int] | None:
        """The record of the origin that moved time to where each is closed."""
        grace, end_of = self._grace, self._windows_of.end_of
        starts = {key[:START] for key in keys}
        rows = rows_at(origin, (end_of(start_in(start)) + grace for start in starts))
        if rows is None:
            return None
        row_of = dict(zip(starts, rows, strict=True))
        return [row_of[key[:START]] for key in keys]

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        self._reach(self._moment(self._time.now), None)  # records that were left out moved time too, and idle inputs
        super().flush()

    def keep(self) -> None:
        super().keep()
        self._told = {}
        self._kept_closed = self._closed

    def take_back(self) -> bool:
        self._closed = self._kept_closed
        self._changed_at |= self._told
        self._told = {}
        return super().take_back()

    def _forget(self) -> None:
        super()._forget()
        self._told = {}

    def reset(self) -> None:
        super().reset()
        self._closed = self._kept_closed = None
