"""Keys of timers: the key of a record, and what the timer is called.

Both are in the bytes so that these are in the order of the keys, and then of the names: a zero in a key becomes 00 FF,
and a zero ends it. A name, which is UTF-8, never begins with FF.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn, Codec
from kstream.codecs.composite import composite_codec
from kstream.errors import CodecError

K = TypeVar("K")

_END: Final = b"\0"
_ESCAPED: Final = b"\0\xff"
_NO_KEY: Final = "\u2400".encode()  # beyond Latin-1, so no id begins with it


@dataclass(frozen=True, slots=True, order=True)
class TimerKey(Generic[K]):
    """What a timer is found by: each key has one of each name."""

    key: K
    name: str


def timer_key(key: bytes, name: str) -> bytes:
    """The bytes of both, of a key that is encoded."""
    return _before_name(key) + name.encode()


def key_with_id(key: bytes | None, own: bytes) -> bytes:
    """The same of what has bytes instead of a name, whatever they are; and perhaps no key, which is not an empty
    one."""
    name = own if own.isascii() else own.decode("latin-1").encode()
    return _END + _NO_KEY + name if key is None else _before_name(key) + name


def _before_name(key: bytes) -> bytes:
    return (key.replace(_END, _ESCAPED) if _END in key else key) + _END


def key_and_name(data: bytes) -> tuple[bytes, str]:
    """The reverse.

    Raises:
        CodecError: it is no such key.
    """
    end = data.find(_END)
    while end >= 0 and data[end + 1 : end + 2] == _ESCAPED[1:]:
        end = data.find(_END, end + 2)
    if end < 0:
        raise CodecError("a key of a timer has a zero behind the key of its record")
    return data[:end].replace(_ESCAPED, _END), data[end + 1 :].decode()


def timer_codec(inner: Codec[Any]) -> BuiltIn[TimerKey[Any]]:
    """The codec of `TimerKey` around keys of `inner`."""

    def encode(timer: TimerKey[Any]) -> bytes:
        return timer_key(inner.encode(timer.key), timer.name)

    def decode(data: bytes) -> TimerKey[Any]:
        key, name = key_and_name(data)
        return TimerKey(inner.decode(key), name)

    return composite_codec(TimerKey, inner, encode, decode, _Shown)


class _Shown(msgspec.Struct):
    """Such a key as it is written in JSON."""

    key: msgspec.Raw
    name: str
