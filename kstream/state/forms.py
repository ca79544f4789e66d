"""In which form the entries of a store lie in its backend and in its changelog.

`plain` is the value as its codec encodes it. `wall` and `event` have the time before it (TTL): 8 bytes, big-endian, ms
since the epoch, by the clock or of events. A changelog record in another form than plain says so in a header, so that a
store can be read by one that keeps another form. In the backend all entries of a store have one form, and its mark says
which (state/about.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kstream.errors import KStreamError
from kstream.specs.ttl import FOREVER
from kstream.types import Headers

PLAIN: Final = "plain"
WALL: Final = "wall"
EVENT: Final = "event"
HEADER: Final = "kstream.form"
STAMP: Final = 8
"""Bytes of the time before a value."""
NEVER: Final = FOREVER
"""The time of an entry that does not expire: it was written before the store had a TTL."""

_HEADERS: Final[dict[str, Headers | None]] = {
    PLAIN: None,
    WALL: [(HEADER, WALL.encode())],
    EVENT: [(HEADER, EVENT.encode())],
}
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


def stamp_of(raw: bytes) -> int:
    """The time before a value."""
    return int.from_bytes(raw[:STAMP], "big")


def packed(stamp: int) -> bytes:
    return stamp.to_bytes(STAMP, "big")


def plain_value(value: bytes, headers: Headers | None) -> bytes:
    """The value of a changelog record without the time that it may have."""
    return value[STAMP:] if headers and form_of(headers) != PLAIN else value


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
