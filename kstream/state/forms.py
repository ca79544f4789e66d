"""In which form the entries of a store lie in its backend and in its changelog.

`plain` is the value as its codec encodes it. `wall` and `event` have the time before it (TTL): 8 bytes, big-endian, ms
since the epoch, by the clock or of events. `wall-entries` and `event-entries` have the times of a list's or dict's
entries before it: the oldest and the newest, 8 bytes each; in 4 bytes how many follow, and these, 8 bytes each, in the
order of the entries. None follow where all are the same. A changelog record in another form than plain says so in a
header, so that a store can be read by one that keeps another form. In the backend all entries of a store have one form,
and its mark says which (state/about.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack, unpack_from
from typing import Final

from kstream.errors import KStreamError
from kstream.specs.ttl import FOREVER
from kstream.types import Headers

PLAIN: Final = "plain"
WALL: Final = "wall"
EVENT: Final = "event"
WALL_ENTRIES: Final = "wall-entries"
EVENT_ENTRIES: Final = "event-entries"
HEADER: Final = "kstream.form"
STAMP: Final = 8
"""Bytes of the time before a value."""
NEVER: Final = FOREVER
"""The time of an entry that does not expire: it was written before the store had a TTL."""

_HEADERS: Final[dict[str, Headers | None]] = {
    PLAIN: None,
    WALL: [(HEADER, WALL.encode())],
    EVENT: [(HEADER, EVENT.encode())],
    WALL_ENTRIES: [(HEADER, WALL_ENTRIES.encode())],
    EVENT_ENTRIES: [(HEADER, EVENT_ENTRIES.encode())],
}
_OF_ENTRIES: Final = frozenset({WALL_ENTRIES, EVENT_ENTRIES})
_BEFORE: Final = Struct(">QQI")  # the times of entries
_FORMS: Final = {form.encode(): form for form in _HEADERS}


def headers_of(form: str) -> Headers | None:
    """Those of a changelog record of this form."""
    return _HEADERS[form]


def form_of(headers: Headers | None) -> str:
    """Raises KStreamError for one that this version does not know."""
    for name, value in headers or ():
        if name == HEADER:
            form = _FORMS.get(value or b"")
            if form is None:
                raise KStreamError(
                    f"a changelog record has the form {value!r}, which this version of kstream does not know: run the "
                    "later version that wrote it"
                )
            return form
    return PLAIN


def clock_of(form: str) -> str:
    """`wall`, `event`, or `plain` where there are no times."""
    return form.removesuffix("-entries")


def stamp_of(raw: bytes) -> int:
    """The time before a value; of several the oldest."""
    return int.from_bytes(raw[:STAMP], "big")


unpack: Final = Struct(">Q").unpack_from
"""The same, for many values: a tuple of it."""


def packed(stamp: int) -> bytes:
    return stamp.to_bytes(STAMP, "big")


def newest_in(form: str, raw: bytes) -> int:
    """The time before a value; of several the newest."""
    return int.from_bytes(raw[STAMP : 2 * STAMP], "big") if form in _OF_ENTRIES else stamp_of(raw)


def plain_in(form: str, raw: bytes) -> bytes:
    """A value without its times."""
    if form in _OF_ENTRIES:
        return raw[_BEFORE.size + STAMP * int.from_bytes(raw[2 * STAMP : _BEFORE.size], "big") :]
    return raw if form == PLAIN else raw[STAMP:]


def timed_in(form: str, stamp: int, plain: bytes) -> bytes:
    """A value all of which has this time."""
    return _BEFORE.pack(stamp, stamp, 0) + plain if form in _OF_ENTRIES else packed(stamp) + plain


def entries_packed(stamps: Sequence[int], now: int, plain: bytes) -> bytes:
    """A value whose entries have these times. One that is empty has the time `now`."""
    oldest, newest = min(stamps, default=now), max(stamps, default=now)
    if oldest == newest:
        return _BEFORE.pack(oldest, newest, 0) + plain
    return _BEFORE.pack(oldest, newest, len(stamps)) + pack(f">{len(stamps)}Q", *stamps) + plain


def stamps_in(raw: bytes, entries: int) -> Sequence[int]:
    """The times of so many entries of a value.

    Raises:
        ValueError: it has another number of them.
    """
    oldest, _, count = _BEFORE.unpack_from(raw)
    if not count:
        return [oldest] * entries
    if count != entries:
        raise ValueError(f"it has {entries} entries, and the times of {count}")
    return unpack_from(f">{count}Q", raw, _BEFORE.size)


def plain_value(value: bytes, headers: Headers | None) -> bytes:
    """The value of a changelog record without the times that it may have."""
    return plain_in(form_of(headers), value) if headers else value


def plain_values(values: Sequence[bytes | None], headers: Sequence[Headers | None]) -> Sequence[bytes | None]:
    """The values of changelog records without the times that some have."""
    if not any(headers):
        return values
    return [None if value is None else plain_value(value, one) for value, one in zip(values, headers, strict=True)]


class Prefixes(dict[int, bytes]):
    """Times as they lie before values. Many entries have the same."""

    def __missing__(self, stamp: int) -> bytes:
        made = self[stamp] = packed(stamp)
        return made
