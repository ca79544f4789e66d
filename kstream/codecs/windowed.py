"""Keys of windows: a key, and when its window starts.

In a topic they have the form of Kafka Streams' `TimeWindowedSerializer` (the key's bytes, then the start as 8 bytes,
big-endian): its `TimeWindowedDeserializer` reads them. In a store the start comes first, so that the windows that close
are a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from kstream.codecs.base import BuiltIn, Codec
from kstream.codecs.composite import composite_codec
from kstream.errors import CodecError

K = TypeVar("K")

START: Final = 8
"""Bytes that the start takes."""
_BIAS: Final = 1 << 63
_SIGNED, _ORDERED = Struct(">q"), Struct(">Q")


@dataclass(frozen=True, slots=True, order=True)
class Windowed(Generic[K]):
    """The key of a window's result.

    Attributes:
        key: of the records in the window.
        start: when it begins, in ms since the epoch. Its end is `start` plus the size of the windows, which are
            declared: Kafka's form of such keys does not have it.
    """

    key: K
    start: int


def windowed_codec(inner: Codec[Any], *, stored: bool = False) -> BuiltIn[Windowed[Any]]:
    """The codec of `Windowed` keys around those of `inner`; `stored`: in the form of stores."""
    encode_key, decode_key = inner.encode, inner.decode
    pack, unpack = _SIGNED.pack, _SIGNED.unpack

    def encode(windowed: Windowed[Any]) -> bytes:
        return encode_key(windowed.key) + pack(windowed.start)

    def decode(data: bytes) -> Windowed[Any]:
        _check(data)
        return Windowed(decode_key(data[:-START]), unpack(data[-START:])[0])

    def encode_stored(windowed: Windowed[Any]) -> bytes:
        return stored_start(windowed.start) + encode_key(windowed.key)

    def decode_stored(data: bytes) -> Windowed[Any]:
        _check(data)
        return Windowed(decode_key(data[START:]), start_in(data))

    return composite_codec(
        Windowed,
        inner,
        encode_stored if stored else encode,
        decode_stored if stored else decode,
        _Shown,
        window_of=(inner, stored),
        to_topic=(lambda data: data[START:] + pack(start_in(data))) if stored else None,
    )


def stored_start(start: int) -> bytes:
    """A start as the keys of stores begin: in the order of time, times before the epoch too."""
    return _ORDERED.pack(start + _BIAS)


def start_in(key: bytes) -> int:
    """When the window of a store's key starts."""
    return int(_ORDERED.unpack_from(key)[0]) - _BIAS


class StoredKeys(list[bytes | None]):
    """A column of keys in the form of stores that knows what they were made of: to put the same together as topics have
    it takes a third of the time of taking them apart.

    Args:
        keys: encoded.
        starts: of their windows; one where all have the same.
    """

    __slots__ = ("_keys", "_starts")

    def __init__(self, keys: Sequence[bytes], starts: Sequence[int] | int) -> None:
        self._keys, self._starts = keys, starts
        if isinstance(starts, int):
            begin = stored_start(starts)
            super().__init__([begin + key for key in keys])
        else:
            begins = {start: stored_start(start) for start in set(starts)}
            super().__init__([begins[start] + key for start, key in zip(starts, keys, strict=True)])

    def in_topics(self) -> list[bytes | None]:
        if isinstance(self._starts, int):
            end = _SIGNED.pack(self._starts)
            return [key + end for key in self._keys]
        ends = {start: _SIGNED.pack(start) for start in set(self._starts)}
        return [key + ends[start] for start, key in zip(self._starts, self._keys, strict=True)]


def as_in_topics(have: Codec[Any], want: Codec[Any], column: Sequence[bytes | None]) -> list[bytes | None] | None:
    """Keys as they lie in a store, in the form of topics: the start goes behind the key, and nothing is decoded. None
    where these two codecs are not of that kind, or a key is missing."""
    if not (isinstance(have, BuiltIn) and isinstance(want, BuiltIn) and have.window_of and want.window_of):
        return None
    (inner, stored), (other, want_stored) = have.window_of, want.window_of
    if not stored or want_stored or None in column or not _write_alike(inner, other):
        return None
    if isinstance(column, StoredKeys):
        return column.in_topics()
    keys = cast("Sequence[bytes]", column)
    ends = {start: _SIGNED.pack(start_in(start)) for start in {key[:START] for key in keys}}
    return [key[START:] + ends[key[:START]] for key in keys]


def _write_alike(one: Codec[Any], other: Codec[Any]) -> bool:
    """Whether two codecs of keys write the same bytes: each declaration has a decoder of its own, but no encoder."""
    if one is other:
        return True
    if not (isinstance(one, BuiltIn) and isinstance(other, BuiltIn)):
        return False
    return (one.encode, one.accepts, one.name) == (other.encode, other.accepts, other.name)


def _check(data: bytes) -> None:
    if len(data) < START:
        raise CodecError(f"a key of a window has at least {START} bytes, for when it starts; these are {len(data)}")


class _Shown(msgspec.Struct):
    """Such a key as it is written in JSON."""

    key: msgspec.Raw
    start: int
