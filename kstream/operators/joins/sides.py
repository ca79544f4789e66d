"""What a join of streams knows of each of its sides, of records that came to one, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from kstream.codecs import Codec
from kstream.codecs.buffered import Kept, before_key
from kstream.operators.joins.waiting import Waiting
from kstream.specs.within import Within
from kstream.state.buffers import BufferStore


class Side:
    """One of the two streams. `other` is the other one.

    Args:
        left: which one.
        kept: its records have a result when they find nothing, too.
        within: what records are near each other.
    """

    other: Side

    def __init__(self, store: BufferStore, codec: Codec[Any], within: Within, *, left: bool, kept: bool) -> None:
        self.store, self.codec, self.left, self.kept = store, codec, left, kept
        # ms before and after a record's time within which it looks for others
        self.back, self.ahead = (within.before, within.after) if left else (within.after, within.before)
        # so long after its time, of the task, a record is not over; of windows `until` says it
        self.open_for = within.left_open if left else within.right_open
        self.changed: set[bytes] = set()  # keys of the store
        self.pushed = 0  # since the last commit
        self.waiting = Waiting(store, within, within.grace if within.size else self.open_for)
        self.removed: int | None = None  # buckets before this time have left

    def forget(self) -> None:
        """What is known of the store besides its entries is found out anew."""
        self.waiting.forget()
        self.removed = None
        self.changed.clear()

    def put(self, place: bytes, row: Kept) -> None:
        """Keeps a record."""
        self.store.append(place, row)
        self.changed.add(place)

    def wait(self, until: int, place: bytes) -> bool:
        """The record that was kept last, at this place, has found nothing. False where the store tells of it later."""
        first = self.store.live[place]
        assert first is not None
        return self.waiting.add(until, place, first.full + 1)

    def tell(self) -> None:
        """The store is told what was changed in place."""
        if self.changed:
            self.store.changed(self.changed)
            self.changed.clear()


Came: TypeAlias = tuple[Side, int, int, int, int, bytes | None, Any, bytes, int, int, Sequence[bytes], bytes]
"""A record that came to a side: the side, its row in the origin, its time, the time of the task, that until which it is
not over, key, value, the value as it is kept, the earliest and the latest time that it finds, the places where it
looks, and where it is kept."""


class Prefixes(dict[int, bytes]):
    """What the keys of a bucket begin with, by its number."""

    def __init__(self, width: int, offset: int) -> None:
        super().__init__()
        self._width, self._offset = width, offset

    def __missing__(self, bucket: int) -> bytes:
        found = self[bucket] = before_key(bucket * self._width + self._offset)
        return found


class Results:
    """Columns of what comes out. `rows` are those of the origin."""

    __slots__ = ("keys", "lefts", "rights", "rows", "stamps")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.rows: list[int] = []
        self.keys: list[bytes | None] = []
        self.lefts: list[Any] = []
        self.rights: list[Any] = []
        self.stamps: list[int] = []

    def add(self, side: Side, row: int, key: bytes | None, own: Any, other: Any, stamp: int) -> None:
        self.rows.append(row)
        self.keys.append(key)
        self.lefts.append(own if side.left else other)
        self.rights.append(other if side.left else own)
        self.stamps.append(stamp)


class Over:
    """A record that is over and found nothing. `due`: the last time at which it was not."""

    __slots__ = ("due", "kept", "place", "side")

    def __init__(self, side: Side, place: bytes, kept: Kept, due: int) -> None:
        self.side, self.place, self.kept, self.due = side, place, kept, due
