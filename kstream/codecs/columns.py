"""Columns to bytes and back. The fast path is one C-level map; only after a failure is the column walked by index.

None means null on both sides. A codec never sees it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from kstream.codecs.base import JSON, BuiltIn, Codec, ColumnError, is_nullable, name_of
from kstream.errors import CodecError

T = TypeVar("T")

EXCERPT: Final = 80
"""Bytes of the data, or characters of the value, that an error message shows at most."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = EXCERPT


def decode_column(codec: Codec[T], column: Sequence[bytes | None]) -> list[T]:
    """The values of a column; None for null where the codec is nullable.

    Raises:
        ColumnError: with the index of the first record that cannot be decoded.
    """
    decoded: list[Any]
    decode: Callable[[Any], Any] = codec.decode
    try:
        if isinstance(codec, BuiltIn) and not codec.nullable:
            decoded = list(map(decode, column))  # they all refuse None
        else:
            decoded = [_null(codec) if data is None else decode(data) for data in column]
        if not isinstance(codec, BuiltIn) or not codec.loose or codec.accepts is None:
            return decoded
        if codec.accepts.issuperset(map(type, decoded)):
            return decoded
    except Exception:
        pass  # walked again below, to say which record it was
    return _walk(decode_value, codec, column)


def encode_column(codec: Codec[T], values: Sequence[T | None]) -> list[bytes | None]:
    """The bytes of a column; null for None where the codec is nullable.

    Raises:
        ColumnError: with the index of the first value that cannot be encoded.
    """
    encoded: list[bytes | None]
    encode: Callable[[Any], bytes] = codec.encode
    try:
        if isinstance(codec, BuiltIn):
            if codec.nullable:
                encoded = [None if value is None else encode(value) for value in values]
            else:
                encoded = list(map(encode, values))
            accepts = codec.accepts
            if (accepts is None or accepts.issuperset(map(type, values))) and not (codec.nulls and b"null" in encoded):
                return encoded
        else:
            return [_null(codec) if value is None else encode(value) for value in values]
    except Exception:
        pass
    return _walk(encode_value, codec, values)


def decode_keys(codec: Codec[T], column: Sequence[bytes | None]) -> list[T | None]:
    """As `decode_column`, and a record without a key has the key None, whatever the codec."""
    return _with_gaps(decode_column, codec, column)


def encode_keys(codec: Codec[T], keys: Sequence[T | None]) -> list[bytes | None]:
    """As `encode_column`, and the key None is no key, whatever the codec."""
    return _with_gaps(encode_column, codec, keys)


def decode_value(codec: Codec[T], data: bytes | None) -> T | None:
    """One value.

    Raises:
        CodecError: null where the codec is not nullable, or a value of another type than was declared.
        Whatever the codec itself raises.
    """
    if data is None:
        _null(codec)
        return None
    value = codec.decode(data)
    if isinstance(codec, BuiltIn) and codec.loose:
        _check_type(codec, value)
    return value


def encode_value(codec: Codec[T], value: T | None) -> bytes | None:
    """One value to bytes. Raises as `decode_value` does."""
    if value is None:
        _null(codec)
        return None
    if isinstance(codec, BuiltIn):
        _check_type(codec, value)
    try:
        data = codec.encode(value)
    except TypeError as error:
        if isinstance(codec, BuiltIn) and codec.loose:
            raise CodecError(f"{error}: declare value=<type>") from error
        raise
    if isinstance(codec, BuiltIn) and codec.nulls and data == b"null":
        raise CodecError("JSON has neither NaN nor infinity")
    return data


def _null(codec: Codec[Any]) -> Any:
    if not is_nullable(codec):
        raise CodecError("null value in a topic not declared `T | None`")
    return None


def _check_type(codec: BuiltIn[Any], value: object) -> None:
    if codec.accepts is None or type(value) in codec.accepts or (value is None and codec.nullable):
        return
    found = type(value).__qualname__
    if value is None:
        raise CodecError("null value in a topic not declared `T | None`")
    if codec.loose and type(value) not in JSON:
        raise CodecError(f"untyped JSON cannot carry {found} and give it back: declare value=<type>")
    raise CodecError(f"a value of type {found}, where {codec.name} was declared, would not come back as it was")


def _walk(one: Callable[[Codec[Any], Any], Any], codec: Codec[Any], column: Sequence[Any]) -> list[Any]:
    """The column record by record, so that an error knows its index."""
    done: list[Any] = []
    for index, item in enumerate(column):
        try:
            done.append(one(codec, item))
        except Exception as error:
            verb = "decode" if one is decode_value else "encode"
            excerpt = f"{item[:EXCERPT]!r}" if isinstance(item, bytes) else _short.repr(item)[:EXCERPT]
            raise ColumnError(f"cannot {verb} {name_of(codec)}: {error} (in {excerpt})", index) from error
    return done


def _with_gaps(
    whole: Callable[[Codec[Any], Sequence[Any]], list[Any]], codec: Codec[Any], column: Sequence[Any]
) -> list[Any]:
    if isinstance(codec, BuiltIn) and not codec.nullable:
        try:
            return whole(codec, column)  # no None among them: the usual case, and None is refused
        except ColumnError as error:
            if column[error.index] is not None:
                raise
    here = [index for index, item in enumerate(column) if item is not None]
    try:
        coded = whole(codec, [column[index] for index in here])
    except ColumnError as error:
        error.index = here[error.index]
        raise
    result: list[Any] = [None] * len(column)
    for index, item in zip(here, coded, strict=True):
        result[index] = item
    return result
