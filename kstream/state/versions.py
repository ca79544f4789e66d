"""The store behind a table with a history: the versions of each key (codecs/versioned.py).

What was valid at a time is found in the head of its key, which comes with the others of a batch in one multi-get, or in
one part, which comes in a second one; never by an iterator. Parts leave by their range.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, cast

from kstream.codecs.buffered import PLACE, before_key
from kstream.codecs.versioned import HEAD, Versions
from kstream.codecs.windowed import start_in
from kstream.state.store import Store

ROWS: Final = 32
"""Versions of a part; a head has twice as many at most."""
BYTES: Final = 8192
"""Bytes of the values of a head from which on it keeps the last one alone."""


class VersionStore(Store[Versions]):
    """See the module's text. `horizon` (ms since the epoch) is a time before which nobody asks any more, and nothing is
    added."""

    _floor = b""  # what comes before was removed: a scan need not go through what was deleted there

    # ---- versions

    def load_heads(self, keys: Iterable[bytes | None]) -> None:
        self.load({HEAD + key for key in keys if key is not None})

    def add(self, key: bytes, at: int, raw: bytes | None, horizon: int) -> bool:
        """A version of a key whose head was loaded, in the place of one of the same time. Whether none is later."""
        head = self.live[HEAD + key]
        if head is None:
            head = self.live[HEAD + key] = Versions([], [], [], 0)
        times = head.times
        if times and at < times[-1]:
            self._between(key, head, at, raw)
            return False
        self._drop(head, horizon)
        _set(head, len(times) - (times[-1:] == [at]), at, raw)
        if raw is None:  # gone: when its part leaves, the head does, too
            self._spill(key, head, len(times) - 1)
        elif len(times) > 2 * ROWS:
            self._spill(key, head, len(times) - ROWS)
        elif head.size > BYTES and len(times) > 1:
            self._spill(key, head, len(times) - 1)
        self.changed((HEAD + key,))
        return True

    def as_of(self, asked: Sequence[tuple[bytes, int] | None]) -> list[bytes | None]:
        """What was valid of each key at each time, encoded; None: nothing, or nothing was asked. Heads were loaded."""
        live, found = self.live, cast("list[bytes | None]", [])
        older: list[tuple[int, bytes, int]] = []
        for index, one in enumerate(asked):
            raw = None
            if one is not None and (head := live[HEAD + one[0]]) is not None:
                key, at = one
                times = head.times
                if at >= times[-1]:
                    raw = head.values[-1]
                elif at >= times[0]:
                    raw = head.values[bisect_right(times, at) - 1]
                elif at < (head.ends[-1] if head.ends else at):
                    older.append((index, _part(head, at) + key, at))
            found.append(raw)
        if older:
            self.load({place for _, place, _ in older})
            for index, place, at in older:
                part = live[place]
                if part is not None and (there := bisect_right(part.times, at)):
                    found[index] = part.values[there - 1]
        return found

    def _between(self, key: bytes, head: Versions, at: int, raw: bytes | None) -> None:
        """One that came out of order."""
        times = head.times
        if at >= times[0] or not head.ends:
            _set(head, bisect_left(times, at), at, raw)
            if len(times) > 2 * ROWS:
                self._spill(key, head, len(times) - ROWS)
            self.changed((HEAD + key,))
            return
        place = _part(head, at) + key
        self.load((place,))
        part = self.live[place]
        if part is None:
            part = self.live[place] = Versions([], [], [], 0)
        _set(part, bisect_left(part.times, at), at, raw)
        if len(part.times) > 2 * ROWS:
            end = part.times[ROWS]
            head.ends.insert(bisect_left(head.ends, end), end)
            self._cut_off(key, part, ROWS, end)
            self.changed((HEAD + key,))
        self.changed((place,))

    def _spill(self, key: bytes, head: Versions, count: int) -> None:
        """So many versions of a head become a part. One without any stands for a row that is gone."""
        end = head.times[count]
        if head.ends[-1:] != [end]:
            head.ends.append(end)
            self._cut_off(key, head, count, end)

    def _cut_off(self, key: bytes, one: Versions, count: int, end: int) -> None:
        values, rest = one.values[:count], one.values[count:]
        place, size = before_key(end) + key, _size(rest)
        self.load((place,))
        self.live[place] = Versions([], one.times[:count], values, one.size - size)
        self.changed((place,))
        one.times[:count], one.values, one.size = [], rest, size

    def _drop(self, head: Versions, horizon: int) -> None:
        """What nobody asks for any more leaves a head that is written anyway."""
        times = head.times
        if len(times) > 1 and times[1] <= horizon:
            count = bisect_right(times, horizon) - 1
            del times[:count], head.values[:count]
            head.size = _size(head.values)
        if head.ends and head.ends[0] <= horizon:
            del head.ends[: bisect_right(head.ends, horizon)]

    # ---- what is over

    def remove_before(self, horizon: int, most: int) -> bool:
        """Removes parts that nobody asks for any more, so many at most, and the heads of rows that were gone by then.
        Returns whether that was all."""
        stop, changed = before_key(horizon + 1), self._dirty
        keys = [key for key, raw in changed.items() if raw is not None and key < stop][:most]
        if len(keys) < most:
            for key, _ in self.backend.scan(self.name, self._floor, stop):
                if len(keys) == most:
                    break
                if key not in changed:
                    keys.append(key)
                self._floor = key
        self.load_heads(key[PLACE:] for key in keys)
        for key in keys:
            head = self.live[HEAD + key[PLACE:]]
            self.delete(key)
            if head is not None and head.values[-1] is None and head.times[-1] == start_in(key):
                self.delete(HEAD + key[PLACE:])
        return len(keys) < most

    def first(self) -> int | None:
        """The horizon from which on something is to be removed."""
        changed = self._dirty
        own = min((key for key, raw in changed.items() if raw is not None), default=HEAD)
        stored = self.backend.scan(self.name, self._floor, HEAD)
        there = next((key for key, _ in stored if key not in changed), HEAD)
        first = min(own, there)
        return start_in(first) if first < HEAD else None

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        self._floor = b""
        return super().take_back(keys)

    def aborted(self) -> None:
        self._floor = b""
        super().aborted()


def _set(one: Versions, index: int, at: int, raw: bytes | None) -> None:
    """Puts a version at its place, over one of its time."""
    if index < len(one.times) and one.times[index] == at:
        one.size -= len(one.values[index] or b"")
        one.values[index] = raw
    else:
        one.times.insert(index, at)
        one.values.insert(index, raw)
    one.size += len(raw or b"")


def _part(head: Versions, at: int) -> bytes:
    """What the key of the part begins with that has this time."""
    return before_key(head.ends[bisect_right(head.ends, at)])


def _size(values: Iterable[bytes | None]) -> int:
    return sum(len(raw) for raw in values if raw)
