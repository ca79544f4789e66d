"""Keys of windows: a key, and when its window starts.

In a topic they have the form of Kafka Streams' `TimeWindowedSerializer` (the key's bytes, then the start as 8 bytes,
big-endian): its `TimeWindowedDeserializer` reads them. In a store the start comes first, so that the windows that close
are a range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn, Codec, name_of, sure_classes
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

    return BuiltIn(
        f"Windowed[{name_of(inner)}]",
        encode_stored if stored else encode,
        decode_stored if stored else decode,
        accepts=frozenset({Windowed}),
        side="key",
        sure=bool(sure_classes(inner)),
        parse=_parser(inner),
    )


def stored_start(start: int) -> bytes:
    """A start as the keys of stores begin: in the order of time, times before the epoch too."""
    return _ORDERED.pack(start + _BIAS)


def start_in(key: bytes) -> int:
    """When the window of a store's key starts."""
    return int(_ORDERED.unpack_from(key)[0]) - _BIAS


def _check(data: bytes) -> None:
    if len(data) < START:
        raise CodecError(f"a key of a window has at least {START} bytes, for when it starts; these are {len(data)}")


def _parser(inner: Codec[Any]) -> Callable[[bytes], Windowed[Any]]:
    """From JSON: {"key": ..., "start": ...}, as such keys are shown."""

    def parse(data: bytes) -> Windowed[Any]:
        from kstream.codecs.text import from_json

        read = msgspec.json.decode(data, type=_Shown)
        raw = from_json(inner, read.key, "the key in it")
        if raw is None:
            raise CodecError("the key in it is null")
        return Windowed(inner.decode(raw), read.start)

    return parse


class _Shown(msgspec.Struct):
    key: msgspec.Raw
    start: int
