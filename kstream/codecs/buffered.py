"""What a join of streams keeps of one side: the records of a key within a bucket of time, in parts that have an end.

A store's key is the start of the bucket (8 bytes, in the order of time, so buckets that are over are a range), the
number of the part (4 bytes), and the record's key. Part 0 takes new records; when it is full it becomes the next
part, and is written again only when its records are joined for the first time. So a record never writes more than one
part anew, however many a key has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn, Codec, name_of
from kstream.codecs.windowed import START, start_in, stored_start
from kstream.errors import CodecError

K = TypeVar("K")

_NUMBER: Final = Struct(">I")
PLACE: Final = START + _NUMBER.size
"""Bytes before the record's key."""
_FIRST: Final = _NUMBER.pack(0)


class Kept(msgspec.Struct, array_like=True, gc=False):
    """A record.

    Attributes:
        at: its time, ms since the epoch.
        found: whether it was joined with another.
        raw: its value, encoded.
    """

    at: int
    found: bool
    raw: bytes


class Part(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Records of a key, in the order in which they came. The tag is the version of this form.

    Attributes:
        full: of part 0: how many others there have been; they came before.
        gone: of part 0: how many of these, the first ones, have left.
        size: bytes of the values.
        low, high: no time of a record is before, or after.
    """

    full: int
    gone: int
    size: int
    low: int
    high: int
    rows: list[Kept]


@dataclass(frozen=True, slots=True)
class Place(Generic[K]):
    """Key of a part, as it is shown."""

    key: K
    start: int
    part: int


def before_key(start: int) -> bytes:
    """What the keys of part 0 begin with, in the bucket that starts then (ms since the epoch)."""
    return stored_start(start) + _FIRST


def part_of(place: bytes, number: int) -> bytes:
    """The key of another part of the same record key and bucket."""
    return place[:START] + _NUMBER.pack(number) + place[PLACE:]


def number_in(place: bytes) -> int:
    """The number of the part of this key."""
    return int(_NUMBER.unpack_from(place, START)[0])


def first_of(place: bytes) -> bytes:
    """The key of its part 0."""
    return place[:START] + _FIRST + place[PLACE:]


def place_codec(inner: Codec[Any]) -> BuiltIn[Place[Any]]:
    """The codec of a buffer's keys, around that of the records' keys. Only the engine writes such keys."""

    def encode(place: Place[Any]) -> bytes:
        return stored_start(place.start) + _NUMBER.pack(place.part) + inner.encode(place.key)

    def decode(data: bytes) -> Place[Any]:
        if len(data) < PLACE:
            raise CodecError(
                f"a key of a join's records has {PLACE} bytes before the record's key; these are {len(data)}"
            )
        return Place(inner.decode(data[PLACE:]), start_in(data), number_in(data))

    return BuiltIn(
        f"records of keys {name_of(inner)}", encode, decode, accepts=frozenset({Place}), side="key", sure=True,
        parse=_refused,
    )  # fmt: skip


def _refused(data: bytes) -> Any:
    raise CodecError("records that wait for a join are not asked for by their key")


def part_codec(inner: Codec[Any]) -> BuiltIn[Part]:
    """The codec of a buffer's entries. Values are in them as `inner` encodes them."""
    encode: Callable[[Part], bytes] = msgspec.msgpack.Encoder().encode
    decode: Callable[[bytes], Part] = msgspec.msgpack.Decoder(Part).decode
    return BuiltIn(f"records of {name_of(inner)}", encode, decode, accepts=frozenset({Part}), sure=True)
