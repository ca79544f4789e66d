"""Deep copies, for values that must be taken before user code changes them again."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from kstream.codecs.base import ATOMS, BuiltIn, Codec, name_of
from kstream.errors import CodecError

T = TypeVar("T")


def copier(codec: Codec[T]) -> Callable[[T], T]:
    """A function that copies a value by encoding and decoding it; atoms are returned as they are.

    Raises (the function): CodecError, when the value cannot make the round trip.
    """
    accepts = codec.accepts if isinstance(codec, BuiltIn) else None
    atoms = ATOMS | {one for one in accepts or () if issubclass(one, Enum)}
    loose = isinstance(codec, BuiltIn) and codec.loose
    encode: Callable[[Any], bytes] = codec.encode
    decode: Callable[[bytes], Any] = codec.decode

    def copy(value: T) -> T:
        if type(value) in atoms:
            return value
        try:
            copied: T = decode(encode(value))
            if copied.__class__ is not value.__class__ or (loose and copied != value):
                raise CodecError(f"{value.__class__.__qualname__} comes back as {copied.__class__.__qualname__}")
        except Exception as error:
            found = type(value).__qualname__
            raise CodecError(f"cannot copy a {found} by way of the codec of {name_of(codec)}: {error}") from error
        return copied

    return copy
