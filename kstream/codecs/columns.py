"""Columns to bytes and back. The fast path is one C-level map; only after a failure is the column walked by index.

None means null on both sides. A codec never sees it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from kstream.codecs.base import JSON, BuiltIn, Codec, ColumnError, is_nullable, name_of
from kstream.codecs.checking import SAMPLE, all_equal, all_readable, check, has_null, hint, is_sampled_good, readable
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
        checked = isinstance(codec, BuiltIn) and codec.loose and codec.accepts is not None
        good = not checked or codec.accepts.issuperset(map(type, decoded))  # type: ignore[attr-defined]
        if good and len(decoded) == len(column):  # `map` ends early where a class of the user's raises StopIteration
            return decoded
    except Exception:
        pass  # walked again below, to say which record it was
    return _walk(decode_value, codec, column)


def encode_column(codec: Codec[T], values: Sequence[T | None], every: int = SAMPLE) -> list[bytes | None]:
    """The bytes of a column; null for None where the codec is nullable.

    The class of each value is checked; one of `every` is compared, to the last type inside, with what a reader gets.
    Of untyped JSON each is compared.

    Raises:
        ColumnError: with the index of the first value that cannot be encoded, or would not come back.
    """
    encoded: list[bytes | None]
    encode: Callable[[Any], bytes] = codec.encode
    try:
        if isinstance(codec, BuiltIn) and not codec.nullable:
            encoded = list(map(encode, values))  # they all refuse None, or `accepts` does
        else:
            encoded = [_null(codec) if value is None else encode(value) for value in values]
        if len(encoded) == len(values) and _is_good(codec, values, encoded, every):  # as in `decode_column`
            return encoded
    except Exception:
        pass  # one of them fails: `_walk` takes them one by one, and raises with its index
    return _walk(encode_value, codec, values)


def _is_good(codec: Codec[T], values: Sequence[T | None], encoded: Sequence[bytes | None], every: int) -> bool:
    if isinstance(codec, BuiltIn):
        if codec.accepts is not None and not codec.accepts.issuperset(map(type, values)):
            return False
        if codec.sure:
            return True
        of_each = codec.loose or codec.side == "key" or has_null(codec, encoded)
        if of_each and not all_equal(codec, values, encoded):
            return False
    return is_sampled_good(codec, values, encoded, every)


def check_entries(codec: Codec[Any], values: Sequence[Any], encoded: Sequence[bytes], every: int) -> None:
    """What is kept: each value comes back equal from its bytes, one of `every` exactly. There is no None among them.

    Raises:
        ColumnError: with the index of the first that does not.
    """
    good = not isinstance(codec, BuiltIn) or (
        (codec.accepts is None or codec.accepts.issuperset(map(type, values)))
        and (codec.sure or (all_readable(codec, encoded) if codec.plain else all_equal(codec, values, encoded)))
    )
    if good and not (isinstance(codec, BuiltIn) and codec.sure):
        good = is_sampled_good(codec, values, encoded, every)
    if not good:
        _walk(partial(_check_entry, encoded=iter(encoded)), codec, values)


def _check_entry(codec: Codec[Any], value: Any, encoded: Iterator[bytes | None]) -> None:
    data = next(encoded)
    if isinstance(codec, BuiltIn):
        _check_type(codec, value)
    if data is not None:
        check(codec, value, data)


def check_column(codec: Codec[Any], encoded: Sequence[bytes | None], every: int) -> None:
    """What is written, where only its bytes are left: one of `every` is decoded, and all where a null was made of NaN.

    Raises:
        ColumnError: with the index of the first that cannot be decoded.
    """
    every = 1 if has_null(codec, encoded) else every
    try:
        for data in encoded[::every]:
            if data is not None:
                codec.decode(data)
    except Exception:
        _walk(_check_readable, codec, encoded)


def _check_readable(codec: Codec[Any], data: bytes | None) -> None:
    if data is not None:
        readable(codec, data)


def decode_keys(codec: Codec[T], column: Sequence[bytes | None]) -> list[T | None]:
    """As `decode_column`, and a record without a key has the key None, whatever the codec."""
    return _with_gaps(decode_column, codec, column)


def encode_keys(codec: Codec[T], keys: Sequence[T | None]) -> list[bytes | None]:
    """As `encode_column`, and the key None is no key, whatever the codec. Each is compared, unless its class is enough:
    its bytes decide where the record belongs."""
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
    try:
        value = codec.decode(data)
    except Exception:
        if isinstance(codec, BuiltIn) and codec.json and data.strip() == b"null":
            _null(codec, "JSON null")
        raise
    if isinstance(codec, BuiltIn) and codec.loose:
        if value is None:
            _null(codec, "JSON null")
        _check_type(codec, value)
    return value


def encode_value(codec: Codec[T], value: T | None, *, exact: bool = True) -> bytes | None:
    """One value to bytes, compared with what a reader gets: to the last type inside, or (not `exact`) whether it is
    equal, which takes a tenth of the time.

    Raises:
        CodecError: null where the codec is not nullable, a value of another type than was declared, or one that would
            not come back as it was.
        Whatever the codec itself raises.
    """
    if value is None:
        _null(codec)
        return None
    if isinstance(codec, BuiltIn):
        _check_type(codec, value)
    try:
        data = codec.encode(value)
    except TypeError as error:
        if isinstance(codec, BuiltIn) and codec.loose:
            raise CodecError(f"{error}{hint(codec)}") from error
        raise
    if exact or isinstance(codec, BuiltIn):
        if isinstance(codec, BuiltIn) and (codec.sure or (not exact and all_equal(codec, (value,), (data,)))):
            return data
        check(codec, value, data)
    return data


def _null(codec: Codec[Any], what: str = "null value") -> Any:
    if not is_nullable(codec):
        raise CodecError(f"{what} in a topic not declared `T | None`")
    return None


def _check_type(codec: BuiltIn[Any], value: object) -> None:
    if codec.accepts is None or type(value) in codec.accepts or (value is None and codec.nullable):
        return
    found = type(value).__qualname__
    if value is None:
        raise CodecError("null value in a topic not declared `T | None`")
    if codec.loose and type(value) not in JSON:
        raise CodecError(f"untyped JSON cannot carry {found} and give it back{hint(codec)}")
    raise CodecError(f"a value of type {found}, where {codec.name} was declared, would not come back as it was")


def _walk(one: Callable[[Codec[Any], Any], Any], codec: Codec[Any], column: Sequence[Any]) -> list[Any]:
    """The column record by record, so that an error knows its index."""
    done: list[Any] = []
    for index, item in enumerate(column):
        try:
            done.append(one(codec, item))
        except Exception as error:
            verb = "decode" if one is decode_value else "write"
            excerpt = f"{item[:EXCERPT]!r}" if isinstance(item, bytes) else _short.repr(item)[:EXCERPT]
            text = f"cannot {verb} {name_of(codec)}: {str(error) or type(error).__name__} (in {excerpt})"
            raise ColumnError(text, index, reading=one is decode_value) from error
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
