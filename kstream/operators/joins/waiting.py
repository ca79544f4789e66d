"""Which records of a side of a join found nothing, by when they are over."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from kstream.codecs.buffered import before_key, first_of, number_in
from kstream.specs.within import Within
from kstream.state.buffers import BufferStore
from kstream.state.watermark import UNKNOWN

LOOKED_AHEAD: Final = 50_000
"""Entries of one side that are known, and of those that are found at once, beyond which the store is read again."""

Entry: TypeAlias = tuple[int, bytes, int]
"""Records that found nothing, of one end: the last time of the task at which they are not over, their place, and the
number that their part has, or will have when part 0 is full. In this order they are told."""


class Waiting:
    """Of one side. All entries before a bound are known; the others are found in the store when it is time. One may be
    there in vain: whoever takes its records finds none.

    What a batch did is taken back without reading the store again: what it added is forgotten, what it took is there
    again. The bound stays, for what was found of parts that the batch had used is found as if it had found nothing.

    Args:
        within: what records are near each other.
        open_for: ms after its time, of the task, a record is not over; of windows, after the end of its own.
    """

    def __init__(self, store: BufferStore, within: Within, open_for: int) -> None:
        self._store, self._within, self._open_for = store, within, open_for
        self._width, self._offset = within.bucket, within.offset
        self.forget()

    def forget(self) -> None:
        """What is known is found out anew."""
        self._known: list[Entry] = []  # a heap
        self._added: list[Entry] = []  # a heap: since `keep`
        self._taken: list[Entry] = []  # since `keep`
        self._bound: Entry | None = None
        self._keeps = False

    def until(self, at: int) -> int:
        """The last time, of the task, at which a record of this time is not over."""
        within = self._within
        return (within.window(at)[1] if within.size else at) + self._open_for

    def last(self, due: int) -> int:
        """The latest time of a record that is over behind this one."""
        return due - self._open_for

    def over_at(self, now: int) -> int:
        """The same at this time of the task."""
        within = self._within
        return within.window(now - self._open_for)[0] - 1 if within.size else now - self._open_for - 1

    @property
    def due(self) -> int:
        """None is over before the time of the task is beyond this."""
        heads = [heap[0][0] for heap in (self._known, self._added) if heap]
        if heads:
            return min(heads)
        return UNKNOWN if self._bound is None else self._bound[0]

    def add(self, due: int, place: bytes, number: int) -> bool:
        """A record that found nothing has come. False where it is found in the store later."""
        entry = due, place, number
        if self._bound is None or entry >= self._bound:
            return False
        heappush(self._added, entry)
        return True

    def first(self, now: int) -> Entry | None:
        """The first that is over at this time."""
        while True:
            if self._known:
                first = self._known[0]
                if self._added and self._added[0] < first:
                    first = self._added[0]
            elif self._added:
                first = self._added[0]
            elif self._bound is not None and self._bound[0] >= now:
                return None
            else:
                self._look(now)
                continue
            return first if first[0] < now else None

    def pop(self) -> Entry:
        """Takes the first, which is there."""
        known, added = self._known, self._added
        entry = heappop(added if added and (not known or added[0] < known[0]) else known)
        if self._keeps:
            self._taken.append(entry)
        return entry

    def _look(self, now: int) -> None:
        """Finds those that are over at this time, and what else is in their buckets; or the first of them, as many as
        may be known."""
        width, offset, bound, store = self._width, self._offset, self._bound, self._store
        end = ((self.over_at(now) - offset) // width + 1) * width + offset
        start = b"" if bound is None else before_key((bound[0] - self._open_for - offset) // width * width + offset)
        found: list[Entry] = []
        limit: Entry = (self.until(end), b"", 0)
        of_windows, open_for = bool(self._within.size), self._open_for
        for key, part in store.between(start, before_key(end)):
            all_of_it = store.was_used(key)
            number = number_in(key)
            place, number = (first_of(key), number) if number else (key, part.full + 1)
            told = None  # records of one end lie behind each other, mostly
            for row in part.rows:
                if not row.found or all_of_it:
                    due = self.until(row.at) if of_windows else row.at + open_for
                    if due == told:
                        continue
                    entry, told = (due, place, number), due
                    if entry < limit and (bound is None or entry >= bound):
                        found.append(entry)
            if len(found) >= 2 * LOOKED_AHEAD:
                found.sort()
                limit = found[LOOKED_AHEAD]
                del found[LOOKED_AHEAD:]
        heapify(found)
        self._known, self._bound = found, limit

    # ---- what is taken back

    def keep(self) -> None:
        """What was done until now stays."""
        for entry in self._added:
            heappush(self._known, entry)
        self._added, self._taken, self._keeps = [], [], True

    def take_back(self) -> None:
        """As it was at the last `keep`."""
        for entry in self._taken:
            heappush(self._known, entry)
        self._added, self._taken = [], []

    def committed(self) -> None:
        self._taken, self._keeps = [], False
