"""Keys of windows that have no fixed length, such as sessions: a key, and when its window starts and ends.

In a topic they have the form of Kafka Streams' `SessionWindowedSerializer` (the key's bytes, then the end and the start
as 8 bytes each, big-endian): its `SessionWindowedDeserializer` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn, Codec
from kstream.codecs.composite import composite_codec
from kstream.codecs.windowed import START, Windowed, start_in, stored_start
from kstream.errors import CodecError

K = TypeVar("K")

BOUNDS: Final = 16
"""Bytes that both ends take."""
_BOUNDS: Final = Struct(">qq")

bounds_after: Final = _BOUNDS.pack
"""What comes behind the key's bytes: takes the end, then the start."""


@dataclass(frozen=True, slots=True, order=True)
class WindowedSpan(Windowed[K]):
    """The key of a window's result, where its end does not follow from its start.

    Attributes:
        key: of the records in the window.
        start, end: in ms since the epoch. Both are in it: those of a session are the times of its first and its last
            record (with `gap_of=` its end is the last time at which a record could come to it), the end of another
            window is its last millisecond.
    """

    end: int


def span_codec(inner: Codec[Any]) -> BuiltIn[WindowedSpan[Any]]:
    """The codec of such keys around those of `inner`."""
    encode_key, decode_key, pack, unpack = inner.encode, inner.decode, _BOUNDS.pack, _BOUNDS.unpack

    def encode(span: WindowedSpan[Any]) -> bytes:
        return encode_key(span.key) + pack(span.end, span.start)

    def decode(data: bytes) -> WindowedSpan[Any]:
        if len(data) < BOUNDS:
            raise CodecError(
                f"a key of a window with an end has at least {BOUNDS} bytes, for its end and start; these are "
                f"{len(data)}"
            )
        end, start = unpack(data[-BOUNDS:])
        return WindowedSpan(decode_key(data[:-BOUNDS]), start, end)

    return composite_codec(WindowedSpan, inner, encode, decode, _Shown)


def stored_span_codec(
    inner: Codec[Any], place: Callable[[int, int], int], span: Callable[[int], tuple[int, int]]
) -> BuiltIn[WindowedSpan[Any]]:
    """The codec of such keys in a store, where a time comes first that windows close in the order of.

    Args:
        place: gives this time (ms) of a window, by its first and last ms.
        span: gives these of a window, by that time.
    """
    encode_key, decode_key = inner.encode, inner.decode

    def encode(key: WindowedSpan[Any]) -> bytes:
        return stored_start(place(key.start, key.end)) + encode_key(key.key)

    def decode(data: bytes) -> WindowedSpan[Any]:
        if len(data) < START:
            raise CodecError(f"a key of a window has at least {START} bytes in a store; these are {len(data)}")
        return WindowedSpan(decode_key(data[START:]), *span(start_in(data)))

    def to_topic(data: bytes) -> bytes:
        start, end = span(start_in(data))
        return data[START:] + bounds_after(end, start)

    return composite_codec(WindowedSpan, inner, encode, decode, _Shown, to_topic=to_topic)


class _Shown(msgspec.Struct):
    """Such a key as it is written in JSON."""

    key: msgspec.Raw
    start: int
    end: int
