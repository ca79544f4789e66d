"""What a join of streams knows of each of its sides, of records that came to one, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush
from typing import Any, TypeAlias

from kstream.codecs import Codec
from kstream.codecs.buffered import Kept, before_key
from kstream.state.buffers import BufferStore


class Side:
    """One of the two streams. `other` is the other one.

    Args:
        left: which one.
        kept: its records have a result when they find nothing, too.
        back, ahead: ms before and after a record's time within which it looks for others.
        open_for: ms after a record's time, once the time of the task has passed them, nothing joins it any more.
    """

    other: Side

    def __init__(
        self, store: BufferStore, codec: Codec[Any], *, left: bool, kept: bool, back: int, ahead: int, open_for: int
    ) -> None:
        self.store, self.codec, self.left, self.kept = store, codec, left, kept
        self.back, self.ahead, self.open_for = back, ahead, open_for
        self.changed: set[bytes] = set()  # keys of the store
        self.pushed = 0  # since the last commit
        self.forget()

    def forget(self) -> None:
        """What is known of the store besides its entries is found out anew."""
        self.waiting: list[tuple[int, bytes]] = []  # a heap: time and place of records that found nothing
        self.seen: int | None = None  # it has all of them up to this time; None: nothing is known
        self.removed: int | None = None  # buckets before this time have left
        self.changed.clear()

    def put(self, place: bytes, row: Kept) -> bool:
        """Keeps a record. Whether it is one that waits to be over, which the store would not be asked about again."""
        self.store.append(place, row)
        self.changed.add(place)
        if not self.kept or row.found or self.seen is None or row.at > self.seen:
            return False
        heappush(self.waiting, (row.at, place))
        return True

    def tell(self) -> None:
        """The store is told what was changed in place."""
        if self.changed:
            self.store.changed(self.changed)
            self.changed.clear()


Came: TypeAlias = tuple[Side, int, int, int, bytes | None, Any, bytes, int, Sequence[bytes], bytes]
"""A record that came to a side: the side, its row in the origin, its time, the time of the task, key, value, the value
as it is kept, the earliest time that it finds, the places where it looks, and where it is kept."""


class Prefixes(dict[int, bytes]):
    """What the keys of a bucket begin with, by its number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def __missing__(self, bucket: int) -> bytes:
        found = self[bucket] = before_key(bucket * self._width)
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

    def __init__(self, side: Side, place: bytes, kept: Kept) -> None:
        self.side, self.place, self.kept, self.due = side, place, kept, kept.at + side.open_for
