"""From what people write to the bytes of a key or value, and from bytes to what people can read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kstream.clock import since_epoch
from kstream.codecs.base import BuiltIn, Codec, is_nullable, name_of
from kstream.codecs.columns import decode_value, encode_value
from kstream.errors import CodecError, UsageError
from kstream.escape import escaped


def key_from_json(codec: Codec[Any], data: bytes | msgspec.Raw) -> Any:
    """The key within a key that is shown as an object, such as that of a window.

    Raises:
        UsageError: it is not JSON, or not of the declared type.
        CodecError: it is null.
    """
    raw = from_json(codec, data, "the key in it")
    if raw is None:
        raise CodecError("the key in it is null")
    return codec.decode(raw)


def from_json(codec: Codec[Any], data: bytes | msgspec.Raw, what: str) -> bytes | None:
    """JSON, as the declared type has it, to bytes. `what` names it in messages.

    Bytes are text. A codec of the user's is given what the JSON says in plain Python objects. `null` is no value where
    the type admits that.

    Raises:
        UsageError: it is not JSON, or not of the declared type.
    """
    try:
        plain = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise UsageError(f"{what} is not JSON: {error}") from error
    if plain is None and is_nullable(codec):
        return None
    try:
        if not isinstance(codec, BuiltIn) or codec.loose:
            value = plain
        elif _is_text(codec):
            value = codec.decode(_text(plain).encode())
        elif codec.parse is not None:
            value = codec.parse(bytes(data))
        else:
            value = codec.decode(bytes(data))
        return encode_value(codec, value)
    except Exception as error:  # whatever the codec says
        raise UsageError(f"{what} is not {name_of(codec)}: {_line(error)}") from error


def from_text(codec: Codec[Any], text: str, what: str) -> bytes | None:
    """A word of the command line to bytes: text and bytes as they stand, everything else as JSON, in which the quotes
    around text (UUIDs, times, names of enums) may be left out.

    Raises:
        UsageError: as `from_json`.
    """
    quoted = json.dumps(text).encode()
    if _is_text(codec):
        return from_json(codec, quoted, what)
    try:
        return from_json(codec, text.encode(), what)
    except UsageError:
        if getattr(codec, "loose", False) or text[:1] in ("{", "[", '"'):
            raise
        try:
            return from_json(codec, quoted, what)
        except UsageError:
            pass
        raise


def _is_text(codec: Codec[Any]) -> bool:
    return codec.encode in (str.encode, bytes.__bytes__)


def _text(plain: Any) -> str:
    if not isinstance(plain, str):
        raise TypeError("it is written as text, in quotes")
    return plain


@dataclass(frozen=True, slots=True)
class Decoded:
    """A key or value that can be shown.

    Attributes:
        plain: as JSON has it; bytes as text, what is not UTF-8 in them escaped.
        text: in one line, without control characters.
        error: why it could not be decoded; `plain` and `text` then show its bytes.
    """

    plain: Any
    text: str
    error: str | None = None


def decoded(codec: Codec[Any], data: bytes | None, *, key: bool = False) -> Decoded:
    """Bytes as the app would read them. Never raises: what cannot be decoded says why."""
    if data is None and (key or is_nullable(codec)):
        return Decoded(None, "-" if key else "null")
    try:
        value = decode_value(codec, data)
        if isinstance(value, bytes | str):
            plain: Any = value if isinstance(value, str) else _readable(value)
            return Decoded(plain, escaped(plain))
        encoded = msgspec.json.encode(value, enc_hook=repr)
        return Decoded(msgspec.json.decode(encoded), escaped(encoded.decode()))
    except Exception as error:  # whatever the codec says, or a value that JSON cannot show
        raw = None if data is None else _readable(data)
        return Decoded(raw, "null" if raw is None else escaped(raw), escaped(_line(error)))


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ---- times


def milliseconds(text: str, what: str) -> int:
    """A number of ms since the epoch, or a date or time as ISO 8601 has it (without a zone it is UTC).

    Raises:
        UsageError: it is neither.
    """
    if re.fullmatch(r"\d+", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{what} {text}: not a time; write 2026-01-31T12:00:00Z, or milliseconds since the epoch"
        ) from None
    return since_epoch(at)


def moment(at: int) -> str:
    """A record's time stamp (ms) for people and for `--from`; "-" where it has none, or one that is no date."""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{at} ms"
