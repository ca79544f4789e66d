"""The store of one side of a join of streams: records by key, in buckets of time (codecs/buffered.py).

A look-up is a multi-get of the buckets that a record's partners may be in, and never an iterator; buckets that are over
leave by their range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast

from kstream.codecs.buffered import Kept, Part, part_of
from kstream.state.store import Store

ROWS: Final = 32
"""Records of a part, at most."""
BYTES: Final = 8192
"""Bytes of the values of a part, from which on it takes no more."""


class BufferStore(Store[Part]):
    """See the module's text. `place` is the key of a part 0."""

    _floor = b""  # what comes before was removed: a scan need not go through what was deleted there
    _kept_floor = b""

    def load_places(self, places: Iterable[bytes]) -> None:
        """Brings all parts of these places into `live`: two multi-gets at most."""
        distinct = cast("set[bytes]", set(places))
        self.load(distinct)
        live, others = self.live, cast("list[bytes]", [])
        for place in distinct:
            first = live[place]
            if first is not None and first.full:
                others += [part_of(place, number) for number in range(first.gone + 1, first.full + 1)]
        if others:
            self.load(others)

    def parts(self, place: bytes) -> list[tuple[bytes, Part]]:
        """All parts of a place that was loaded, with their keys, in the order of their records."""
        first = self.live[place]
        if first is None:
            return []
        found = [
            (key, self.live.get(key)) for key in (part_of(place, n) for n in range(first.gone + 1, first.full + 1))
        ]
        return [*((key, part) for key, part in found if part is not None), (place, first)]

    def append(self, place: bytes, row: Kept) -> None:
        """Keeps a record at a place that was loaded. The key of part 0 is to be told as changed."""
        live, size, at = self.live, len(row.raw), row.at
        first = live[place]
        if first is None:
            live[place] = Part(0, 0, size, at, at, [row])
        elif len(first.rows) < ROWS and first.size < BYTES:
            first.rows.append(row)
            first.size += size
            if at < first.low:
                first.low = at
            elif at > first.high:
                first.high = at
        else:
            number = first.full + 1
            full = part_of(place, number)
            self.load((full,))
            live[full] = Part(0, 0, first.size, first.low, first.high, first.rows)
            live[place] = Part(number, first.gone, size, at, at, [row])
            self.changed((full,))

    def load_parts(self, parts: Iterable[tuple[bytes, int]]) -> None:
        """Brings these parts into `live`, by place and number, and their parts 0: two multi-gets at most."""
        wanted = set(parts)
        self.load({place for place, _ in wanted})
        live = self.live
        others = [
            part_of(place, number)
            for place, number in wanted
            if (first := live[place]) is not None and number <= first.full
        ]
        if others:
            self.load(others)

    def take(self, place: bytes, number: int, last: int) -> list[Kept]:
        """Removes the records up to this time of one part, which was loaded, and returns those that found nothing.

        Args:
            number: of the part; or that it will have, of part 0.
        """
        live = self.live
        if (first := live[place]) is None:
            return []
        key = place if number > first.full else part_of(place, number)
        part = live[key]
        if part is None or part.low > last:
            return []
        taken = [row for row in part.rows if row.at <= last and not row.found]
        part.rows = [row for row in part.rows if row.at > last]
        part.low, part.size = last + 1, sum(len(row.raw) for row in part.rows)
        if part.rows or part is first:
            self.changed((key,))
        else:
            self.delete(key)
        self._close_up(place, first, last)
        return taken

    def _close_up(self, place: bytes, first: Part, last: int) -> None:
        """Passes over the first parts of a place that have left, and over those whose records are of this time at most
        and found others: nobody takes these."""
        before = first.gone
        while first.gone < first.full:
            key = part_of(place, first.gone + 1)
            if key not in self.live:
                self.load((key,))
            if (part := self.live[key]) is not None:
                if part.high > last or not all(row.found for row in part.rows):
                    break
                self.delete(key)
            first.gone += 1
        if first.gone == first.full and not first.rows:
            self.delete(place)
        elif first.gone != before:
            self.changed((place,))

    # ---- by time

    def between(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, Part]]:
        """All parts from one key to before another, changed ones first."""
        live, changed, decode = self.live, self._dirty, self.value_codec.decode
        for key in [key for key in changed if start <= key < stop]:
            if (part := live[key]) is not None:
                yield key, part
        for key, raw in self.backend.scan(self.name, max(start, self._floor), stop):
            if key not in changed:
                yield key, decode(raw)

    def was_used(self, key: bytes) -> bool:
        """Whether the batch at hand has used an entry: what it did may be taken back."""
        return self._before is not None and key in self._before

    def remove_before(self, stop: bytes, most: int) -> bool:
        """Removes what comes before this key, so many entries at most. Returns whether that was all."""
        changed = self._dirty
        keys = [key for key, raw in changed.items() if raw is not None and key < stop][:most]
        if len(keys) < most:
            for key, _ in self.backend.scan(self.name, self._floor):
                if key >= stop or len(keys) == most:
                    break
                if key not in changed:
                    keys.append(key)
                self._floor = key
        for key in keys:
            self.delete(key)
        return len(keys) < most

    def first(self) -> bytes | None:
        """The first key of all."""
        changed = self._dirty
        own = min((key for key, raw in changed.items() if raw is not None), default=None)
        there = next((key for key, _ in self.backend.scan(self.name, self._floor) if key not in changed), None)
        return min((key for key in (own, there) if key is not None), default=None)

    def keep(self) -> None:
        super().keep()
        self._kept_floor = self._floor

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        self._floor = self._kept_floor
        return super().take_back(keys)

    def aborted(self) -> None:
        self._floor = b""
        super().aborted()
