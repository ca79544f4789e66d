"""Keys of tables as they stand in a URL: text as it is, bytes as base64url or hex, everything else as JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, Literal

from kstream.codecs.base import Codec, name_of
from kstream.codecs.text import decoded, from_text
from kstream.errors import UsageError

Form = Literal["json", "raw"]
"""How keys and values are written: `json` as people read them, `raw` their encoded bytes, as base64url."""
FORMS: Final = ("json", "raw")

Encoding = Literal["base64url", "hex", "text"]
"""How keys that are bytes are written."""
ENCODINGS: Final = ("base64url", "hex", "text")


def key_bytes(codec: Codec[Any], text: str, form: Form, encoding: Encoding, what: str) -> bytes:
    """The encoded key that `text` says.

    Raises:
        UsageError: it is none of this codec.
    """
    if form == "raw":
        return binary(text, "base64url", what)
    if is_bytes(codec) and encoding != "text":
        return binary(text, encoding, what)
    found = from_text(codec, text, what)
    if found is None:
        raise UsageError(f"{what} cannot be null")
    return found


def shown_key(codec: Codec[Any], key: bytes, encoding: Encoding) -> Any:
    """A key as JSON has it; `key_bytes` reads it back."""
    if is_bytes(codec) and encoding != "text":
        return key.hex() if encoding == "hex" else base64.urlsafe_b64encode(key).rstrip(b"=").decode()
    return decoded(codec, key, key=True).plain


def binary(text: str, encoding: Literal["base64url", "hex"], what: str) -> bytes:
    """Raises UsageError when it is not written in this encoding."""
    try:
        if encoding == "hex":
            return bytes.fromhex(text)
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise UsageError(f"{what} is not written in {encoding}") from None


def is_bytes(codec: Codec[Any]) -> bool:
    return codec.encode is bytes.__bytes__


def is_ordered(codec: Codec[Any]) -> bool:
    """Whether encoded keys lie in the order of the keys: text (UTF-8 keeps the order of code points) and bytes. Numbers
    are written in digits: "10" comes before "9"."""
    return codec.encode in (str.encode, bytes.__bytes__)


def check_ordered(codec: Codec[Any], what: str) -> None:
    """Raises UsageError where encoded keys do not lie in the order of the keys: a range of them has no meaning."""
    if not is_ordered(codec):
        raise UsageError(
            f"{what} has keys of type {name_of(codec)}, which do not lie in their order: from, to and prefix are for "
            "keys that are text or bytes; ask for all entries, or for single keys"
        )


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None where that is the end."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1]) if cut else None
