"""Whether what is written can be read back as it was: bytes are decoded once more and compared with their value.

Three depths. *Readable* costs a decoding: it finds what cannot be decoded (0.5 in a field of ints, NaN), and is all
that records of whole numbers need. *Equal* adds a comparison at C speed, and finds what comes back as something else (a
tuple as a list). *Exact* walks both in Python, and finds the equal that are not the same, too (a Counter for a dict, an
enum of int for an int): so are the first value of each class and one of `SAMPLE`. docs/decisions/0013-read-back.md has
the measurements.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

import msgspec

from kstream.codecs.base import ATOMS, BuiltIn, Codec
from kstream.errors import CodecError

SAMPLE: Final = 256
"""One of so many values is compared exactly, where not all are."""

CHUNK: Final = 64
"""Values that are decoded before they are compared: so few stay in the processor's cache, and wake no collector."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


def check(codec: Codec[Any], value: Any, data: bytes) -> None:
    """Compares exactly. A codec of the user's may lose what it likes (digits, say), once: what it decodes must give the
    same bytes again.

    Raises:
        CodecError: the value does not come back as it was.
    """
    back = readable(codec, data)
    if not isinstance(codec, BuiltIn):
        if codec.encode(back) != data:
            raise CodecError("what is decoded gives other bytes: encode(decode(encode(x))) must equal encode(x)")
        return
    found = difference(value, back)
    if found is None and codec.side == "key" and codec.encode(back) != data:  # 1 in a field of floats
        found = f"{difference(value, back, whole_is_float=False)}, and keys are compared by their bytes"
    if found is not None:
        raise CodecError(f"it would not come back as it was: {found}{hint(codec)}")


def readable(codec: Codec[Any], data: bytes) -> Any:
    """What the bytes are read as.

    Raises:
        CodecError: they cannot be.
    """
    try:
        return codec.decode(data)
    except Exception as error:
        lacks = "JSON has neither NaN nor infinity: " if isinstance(codec, BuiltIn) and codec.nulls else ""
        lacks = lacks if b"null" in data else ""
        raise CodecError(f"it could not be read back once written: {lacks}{error}{hint(codec)}") from error


def hint(codec: Codec[Any]) -> str:
    return f"; declare {codec.side}=<type>" if isinstance(codec, BuiltIn) and codec.loose else ""


def all_equal(codec: BuiltIn[Any], values: Sequence[Any], encoded: Sequence[bytes | None]) -> bool:
    """Whether all of a column come back equal, keys with the same bytes too. False when that cannot be said: then they
    are to be checked singly."""
    decode, encode = codec.decode, codec.encode
    try:
        if codec.nullable:
            back = [None if data is None else decode(data) for data in encoded]
            again = encoded if codec.side == "value" else [None if one is None else encode(one) for one in back]
            return back == list(values) and list(again) == list(encoded)
        values = list(values)
        for at in range(0, len(encoded), CHUNK):
            here = slice(at, at + CHUNK)
            back = list(map(decode, encoded[here]))  # type: ignore[arg-type]  # no None among them
            if back != values[here] or (codec.side == "key" and list(map(encode, back)) != list(encoded[here])):
                return False
        return True
    except Exception:  # also what a class's own __eq__ raises
        return False


def all_readable(codec: BuiltIn[Any], encoded: Iterable[bytes]) -> bool:
    """Whether all of a column can be decoded. They are not kept: memory, and the collector, are left alone."""
    try:
        deque(map(codec.decode, encoded), maxlen=0)
    except Exception:
        return False
    return True


def is_sampled_good(codec: Codec[Any], values: Sequence[Any], encoded: Sequence[bytes | None], every: int) -> bool:
    """Whether one of `every`, beginning with the first, comes back exactly as it was."""
    try:
        for value, data in zip(values[::every], encoded[::every], strict=True):
            if data is not None:
                check(codec, value, data)
    except Exception:
        return False
    return True


def has_null(codec: Codec[Any], encoded: Iterable[bytes | None]) -> bool:
    """Whether there may be a null in place of a number that JSON lacks. (Null is also a word: look closer.)"""
    return isinstance(codec, BuiltIn) and codec.nulls and b"null" in b"".join(filter(None, encoded))


def difference(value: Any, back: Any, at: str = "", *, whole_is_float: bool = True) -> str | None:
    """Where and how `back` is not what `value` was; None when it is the same, to the last type inside.

    Args:
        whole_is_float: a whole number in a field of floats is the same: only its form changes.
    """
    cls, other = value.__class__, back.__class__
    if cls is not other and not (whole_is_float and cls is int and other is float):
        return _say(value, back, at)
    if cls in ATOMS or isinstance(value, Enum):
        same = value == back or (value != value and back != back) or _is_same_time(value, back)
        return None if same else _say(value, back, at)
    if isinstance(value, (dict, list, tuple)):
        if len(value) != len(back):
            return _say(value, back, at)
        pairs = _of_dicts(value, back, at) if isinstance(value, dict) else _of_rows(value, back, at)
    elif isinstance(value, (set, frozenset)):
        typed = {(each.__class__, each) for each in value} == {(each.__class__, each) for each in back}
        return None if typed else _say(value, back, at)
    else:
        names = _fields(cls)
        if names is None:
            return None if value == back else _say(value, back, at)
        pairs = ((getattr(value, name), getattr(back, name), f"{at}.{name}") for name in names)
    each = (difference(one, two, where, whole_is_float=whole_is_float) for one, two, where in pairs)
    return next((found for found in each if found is not None), None)


def _is_same_time(value: Any, back: Any) -> bool:
    """An hour that comes twice in its time zone, or never, equals nothing in another zone (PEP 495): its forms do."""
    return isinstance(value, datetime) and value.isoformat() == back.isoformat()


def _of_dicts(value: dict[Any, Any], back: dict[Any, Any], at: str) -> Iterator[tuple[Any, Any, str]]:
    names = {name: name for name in back}
    for name, one in value.items():
        where = f"{at}[{_short.repr(name)}]"
        yield name, names.get(name), f"the key of {where}"
        yield one, back[name], where


def _of_rows(value: Sequence[Any], back: Sequence[Any], at: str) -> Iterator[tuple[Any, Any, str]]:
    for index, (one, two) in enumerate(zip(value, back, strict=True)):
        yield one, two, f"{at}[{index}]"


def _fields(cls: type) -> Sequence[str] | None:
    """The names of what a class holds; None where it is not known to be a record."""
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if dataclasses.is_dataclass(cls):
        return [each.name for each in dataclasses.fields(cls)]
    attributes = getattr(cls, "__attrs_attrs__", None)
    return None if attributes is None else [each.name for each in attributes]


def _say(value: Any, back: Any, at: str) -> str:
    def show(one: Any) -> str:
        return f"{one.__class__.__qualname__} {_short.repr(one)}"

    lacks = " (JSON has neither NaN nor infinity)" if back is None and isinstance(value, float) else ""
    return f"{at + ': ' if at else ''}{show(value)} comes back as {show(back)}{lacks}"
