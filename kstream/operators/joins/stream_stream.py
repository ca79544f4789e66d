"""A stream joined with a stream: records of one key whose times are near each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, cast

from kstream.codecs import SAMPLE, Codec, holds_none
from kstream.codecs.buffered import PLACE, Kept
from kstream.codecs.windowed import start_in, stored_start
from kstream.errors import CodecError, EntryUnreadable
from kstream.operators.base import Cursor, Push
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, rows_at, task_times
from kstream.operators.dropping import LATE, NO_VALUE, Dropping, Lines
from kstream.operators.joins.sides import Came, Over, Prefixes, Results, Side
from kstream.operators.joins.waiting import Entry
from kstream.operators.origin import Origin
from kstream.operators.stateless import apply
from kstream.operators.told import AT_ONCE, Teller, Telling, ToldOrigin
from kstream.specs.record import EPOCH_IS_NOW
from kstream.specs.within import Within
from kstream.state.buffers import BufferStore
from kstream.state.time import TaskTime
from kstream.state.watermark import UNKNOWN, Watermark

TAKEN: Final = 2_000
"""Entries of what waits that are taken at once: each has up to a part's records."""
REMOVED: Final = 10_000
"""Entries that a commit removes, and two more for each record: so what is over leaves as fast as it came, in pieces."""


class StreamStreamJoin(Dropping, Closing, Telling):
    """Each record finds those of the other stream that came before it, and is found by those that come after it. A
    result has the later of the two times, and comes when both are there.

    A record is over when the time of the task has passed its own, the bound and `grace`. One of a side that is kept
    and found nothing has its result then, with None for the other, before the record that moved time. One that comes
    when it is over is late: it is joined with what is still there, and is not kept.

    Where both sides have records of one source (a stream joined with itself), what comes of a batch is held until it is
    through all ways, and is put in the order of its records.
    """

    def __init__(
        self,
        name: str,
        stores: tuple[BufferStore, BufferStore],
        codecs: tuple[Codec[Any], Codec[Any]],
        key_codec: Codec[Any],
        value_codec: Codec[Any],
        within: Within,
        joiner: Callable[..., Any],
        cursor: Cursor | None,
        lines: Lines,
        *,
        keeps: tuple[bool, bool],
        meets: bool,
        watermark: Watermark,
        time: TaskTime,
        every: int = SAMPLE,
    ) -> None:
        """`keeps`: whether records of the left, and of the right, that find nothing have a result."""
        super().__init__(lines)
        self._name, self.key_codec, self.value_codec, self._every = name, key_codec, value_codec, every
        self._joiner, self._cursor, self._meets = joiner, cursor, meets
        self._watermark, self._time, self._width = watermark, time, within.bucket
        self._within, self._offset = within, within.offset
        self._left = Side(stores[0], codecs[0], within, left=True, kept=keeps[0])
        self._right = Side(stores[1], codecs[1], within, left=False, kept=keeps[1])
        self._left.other, self._right.other = self._right, self._left
        self._sides: tuple[Side, ...] = self._left, self._right
        self._waits = [side for side in self._sides if side.kept]
        self._due = UNKNOWN + 1  # the time of the task from which on a record may be over that found nothing
        self._held: list[Came] = []
        self._held_of: Origin | None = None
        self._prefixes = Prefixes(within.bucket, within.offset)
        self.teller = Teller(f"a record that found nothing, of join {name!r}", key_codec)

    # ---- records

    def push(self, batch: Batch) -> None:
        raise AssertionError("it has two inputs")

    def input(self, place: int) -> Push:
        return partial(self._take, self._sides[place])

    def _take(self, side: Side, batch: Batch) -> None:
        values = batch.values  # all are decoded, found or not: one that cannot be read fails here
        if holds_none(batch.value_codec) and None in values:
            batch = self._without(batch, values, NO_VALUE)
        if side.kept:
            keys = batch.encoded_keys(self.key_codec)
        else:
            batch, keys = self._keyed(batch, self.key_codec)
        if not batch.size:
            return
        origin = batch.origin
        times = task_times(batch, self._watermark.now)
        came = self._prepared(side, batch, keys, times)
        if self._meets and origin is not None and not origin.timeless:
            if not self._held or not origin.of_time:
                self._held_of = origin
            self._held += came
        else:
            self._join(came, origin)

    def release(self) -> None:
        if self._held:
            came, self._held = self._held, []
            came.sort(key=_place)  # of one record what comes to the left goes first
            self._join(came, self._held_of)

    def _prepared(
        self, side: Side, batch: Batch, keys: Sequence[bytes | None], times: Sequence[int]
    ) -> list[Came]:  # fmt: skip
        """Loads all that the records may find, and where they are kept."""
        width, newest, prefixes = self._width, self._time.event, self._prefixes
        other = side.other
        back, ahead, own_open, other_open = side.back, side.ahead, side.open_for, other.open_for
        window, offset, grace = self._within.window if self._within.size else None, self._offset, self._within.grace
        raws = cast("list[bytes]", batch.encoded_values(side.codec, self._every))
        rows = range(batch.size) if batch.rows is None else batch.rows
        wanted: list[bytes] = []
        places: list[bytes] = []
        came: list[Came] = []
        if len(prefixes) > 1000:
            prefixes.clear()
        for row, at, now, key, value, raw in zip(rows, batch.timestamps, times, keys, batch.values, raws, strict=True):
            if key is None:
                came.append((side, row, at, now, at, key, value, raw, 0, 0, (), b""))
                continue
            if window is None:
                low, high, until = at - back, at + ahead, at + own_open
                if low < now - other_open:  # what is earlier is over
                    low = now - other_open
            else:
                low, high = window(at)
                until = high + grace
                if until < now:  # so are all others of its window
                    low = high + 1
            first, last = (low - offset) // width, ((high if high < newest else newest) - offset) // width
            if first == last:
                asked: Sequence[bytes] = (prefixes[first] + key,)
            else:
                asked = [prefixes[bucket] + key for bucket in range(first, last + 1)]
            place = prefixes[(at - offset) // width] + key
            wanted += asked
            places.append(place)
            came.append((side, row, at, now, until, key, value, raw, low, high, asked, place))
        other.store.load_places(wanted)
        side.store.load(places)
        side.pushed += len(places)
        return came

    def _join(self, records: Sequence[Came], origin: Origin | None) -> None:
        """Joins records in this order, and before each of them those that are over at its time and found nothing."""
        results, waits = Results(), bool(self._waits)
        for side, row, at, now, until, key, value, raw, low, high, asked, place in records:
            if waits and now >= self._due:
                self._let_go(now, origin, results)
            found = self._found(side, low, high, asked)
            if found:
                results.add(side, row, key, value, self._read(side.other, found[0].raw), max(at, found[0].at))
                for kept in found[1:]:  # a value of its own for each: a joiner may change it
                    own = side.codec.decode(raw)
                    results.add(side, row, key, own, self._read(side.other, kept.raw), max(at, kept.at))
                    if len(results.keys) >= AT_ONCE:
                        self._emit(results, origin)
                if len(results.keys) >= AT_ONCE:
                    self._emit(results, origin)
            if until < now or key is None:  # late, or what nothing can be joined with
                if not found and side.kept:
                    results.add(side, row, key, value, None, at)
                elif not found:
                    self._left_out(LATE, 1)
            else:
                if not at and not found and side.kept:
                    self._refuse_epoch(row, origin)
                side.put(place, Kept(at, bool(found), raw))
                if side.kept and not found and side.wait(until, place) and until < self._due:
                    self._due = until + 1
        for side in self._sides:
            side.tell()
        self._emit(results, origin)

    def _refuse_epoch(self, row: int, origin: Origin | None) -> None:
        """Now it is the failure of the record; when it is over, it would be one of the task."""
        if origin is not None:
            origin.at_fault = row
        raise CodecError(f"join {self._name!r}, of a record that has found nothing yet: {EPOCH_IS_NOW}")

    def _found(self, side: Side, low: int, high: int, asked: Sequence[bytes]) -> Sequence[Kept]:
        """The records of the other side at these places, of these times, the earliest first."""
        other = side.other
        store, live = other.store, other.store.live
        found: list[Kept] = []
        for place in asked:
            if (first := live[place]) is None:
                continue
            for name, part in store.parts(place) if first.full else ((place, first),):
                for kept in part.rows if part.low <= high and part.high >= low else ():
                    if low <= kept.at <= high:
                        found.append(kept)
                        if other.kept and not kept.found:
                            kept.found = True
                            other.changed.add(name)
        if len(found) > 1:
            found.sort(key=_time_of)
        return found

    def _read(self, side: Side, raw: bytes) -> Any:
        try:
            return side.codec.decode(raw)
        except Exception as error:
            raise EntryUnreadable(
                f"a record that join {self._name!r} keeps of its {'left' if side.left else 'right'} side cannot be "
                f"read: {error}; another version of the type wrote it: give new fields a default, or let the type take "
                "the old form too"
            ) from error

    def _emit(self, results: Results, origin: Origin | None) -> None:
        if not results.keys:
            return
        batch = Batch(
            len(results.keys), self.key_codec, self.value_codec, origin=origin,
            rows=None if origin is None else results.rows, raw_keys=results.keys, values=results.lefts,
            timestamps=results.stamps,
        )  # fmt: skip
        joiner, rights = self._joiner, iter(results.rights)

        def join(left: Any, *context: Any) -> Any:
            return joiner(left, next(rights), *context)

        results.clear()
        batch, joined = apply(join, self._cursor, batch, of=joiner)
        self.emit(batch.with_values(joined, self.value_codec))

    # ---- time

    def through(self, origin: Origin | None) -> None:
        self.release()
        super().through(origin)

    def time_passed(self, origin: Origin | None) -> None:
        self._let_go(self._watermark.now, origin, Results())

    def closes_by(self, time: int) -> bool:
        for side in self._sides:
            side.tell()
            first = side.store.first()
            if first is None:
                continue
            if start_in(first) + self._width - 1 <= side.waiting.over_at(time):
                return True
            if side.kept and side.waiting.first(time) is not None:
                return True
        return False

    def _let_go(self, now: int, origin: Origin | None, before: Results) -> None:
        """Results of the records that are over at this time and found nothing, the first that was over first.

        Args:
            before: results that come before them.
        """
        if not self._waits or now < self._due:
            return
        for side in self._waits:
            side.tell()
        while entries := self._entries(now):
            for side in self._waits:
                side.store.load_parts([(place, number) for one, (_, place, number) in entries if one is side])
            over = [
                Over(side, place, kept, due)
                for side, (due, place, number) in entries
                for kept in side.store.take(place, number, side.waiting.last(due))
            ]
            if over:
                self._emit(before, origin)
            for start in range(0, len(over), AT_ONCE):
                self._tell(over[start : start + AT_ONCE], origin)
        self._due = min(side.waiting.due for side in self._waits) + 1

    def _entries(self, now: int) -> list[tuple[Side, Entry]]:
        """The first that are over at this time; of both sides, those of the left first of one end."""
        found: list[tuple[Side, Entry]] = []
        while len(found) < TAKEN:
            heads = [(first, side) for side in self._waits if (first := side.waiting.first(now)) is not None]
            if not heads:
                break
            side = heads[0][1] if len(heads) == 1 or heads[0][0][0] <= heads[1][0][0] else heads[1][1]
            found.append((side, side.waiting.pop()))
        return found

    def _tell(self, over: Sequence[Over], origin: Origin | None) -> None:
        keys, stamps = [one.place[PLACE:] for one in over], [one.kept.at for one in over]
        rows = rows_at(origin, (one.due + 1 for one in over))

        def push(told: ToldOrigin, places: Sequence[int]) -> None:
            results = Results()
            for place in places:
                told.at_fault, one = place, over[place]
                results.add(one.side, place, keys[place], self._read(one.side, one.kept.raw), None, stamps[place])
            told.at_fault = None
            self._emit(results, told)

        self.teller.tell(keys, lambda place: over[place].kept.raw, stamps, origin, rows, push)

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        now = self._watermark.now
        self._let_go(now, None, Results())
        for side in self._sides if now != UNKNOWN else ():
            stop = (side.waiting.over_at(now) + 1 - self._offset) // self._width * self._width + self._offset
            if (side.removed is None or side.removed < stop) and side.store.remove_before(
                stored_start(stop), REMOVED + 2 * side.pushed
            ):
                side.removed = stop
            side.pushed = 0

    def keep(self) -> None:
        super().keep()
        for side in self._waits:
            side.waiting.keep()

    def take_back(self) -> bool:
        self._held, self._due = [], UNKNOWN + 1
        for side in self._sides:
            side.waiting.take_back()
            side.changed.clear()
        return super().take_back()

    def committed(self) -> None:
        for side in self._waits:
            side.waiting.committed()
        super().committed()

    def reset(self) -> None:
        self._held, self._due = [], UNKNOWN + 1
        for side in self._sides:
            side.forget()
        super().reset()


def _place(one: Came) -> tuple[int, bool]:
    return one[1], not one[0].left


_time_of: Final = attrgetter("at")
