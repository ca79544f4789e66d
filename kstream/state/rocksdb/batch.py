"""How the changes and the mark of a store lie in a write batch of its column family."""

from __future__ import annotations

import struct
from bisect import bisect_left
from operator import itemgetter

from rocksdict import WriteBatch

from kstream.state.backend import Changes, Mark
from kstream.state.rocksdb.scan import MARK_KEY

_MARK = struct.Struct(">qd")  # offset, wall time in seconds; what is said about the store follows
_key_of = itemgetter(0)


def unpacked_mark(packed: bytes) -> Mark:
    offset, wall_time = _MARK.unpack_from(packed)
    return Mark(offset, wall_time, packed[_MARK.size :])


def fill(batch: WriteBatch, store: str, changes: Changes, mark: Mark | None) -> None:
    # Sorted by key alone and stably: values do not compare, and the last of equal keys must stay last.
    ordered = sorted(changes, key=_key_of)
    at = bisect_left(ordered, MARK_KEY, key=_key_of)
    if at < len(ordered) and ordered[at][0] == MARK_KEY:
        raise ValueError(f"store {store!r}: the key {MARK_KEY.hex()} (hex) is reserved by kstream")
    for key, value in ordered:
        if value is None:
            del batch[key]
        else:
            batch[key] = value
    if mark is not None:
        batch[MARK_KEY] = _MARK.pack(mark.offset, mark.wall_time) + mark.about
