"""What a table with a history keeps of a key: its versions, in the order of their times.

The head has those that came last; when it is full, the older ones go into parts that lie in the order of the time from
which on they are of no use to anybody who asks for that time or a later one. So what is over is a range. Keys of both
have the form of buffered.py: a part's begins with the time of the first version behind it, a head's lies behind all
parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from kstream.codecs.base import BuiltIn, Codec, name_of
from kstream.codecs.buffered import PLACE

HEAD: Final = b"\xff" * PLACE
"""What the keys of heads begin with."""


class Versions(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Versions of a row that follow each other. The tag is the version of this form.

    Attributes:
        ends: of a head: the times with which the keys of its parts begin, in their order.
        times: from which on each version is valid, in ms since the epoch; in their order.
        values: encoded; None: there is no row.
        size: bytes of the values, about.
    """

    ends: list[int]
    times: list[int]
    values: list[bytes | None]
    size: int


def versions_codec(inner: Codec[Any]) -> BuiltIn[Versions]:
    """The codec of such entries. Values are in them as `inner` encodes them."""
    encode: Callable[[Versions], bytes] = msgspec.msgpack.Encoder().encode
    decode: Callable[[bytes], Versions] = msgspec.msgpack.Decoder(Versions).decode
    return BuiltIn(f"versions of {name_of(inner)}", encode, decode, accepts=frozenset({Versions}), sure=True)
