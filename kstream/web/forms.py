"""How bytes and places stand in requests and answers: base64url without padding, as in JSON Web Tokens (RFC 7515)."""

from __future__ import annotations

import base64

import msgspec

from kstream.codecs.keys import binary
from kstream.errors import UsageError


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def cursor_at(partition: int, key: bytes | None) -> str:
    """Where a page ended: behind this key of a partition; None: at the partition's beginning."""
    return text(msgspec.msgpack.encode((partition, key)))


def place_of(cursor: str) -> tuple[int, bytes | None]:
    """What `cursor_at` was given. Raises UsageError where it is none of its."""
    try:
        return msgspec.msgpack.decode(binary(cursor, "base64url", "cursor"), type=tuple[int, bytes | None])
    except (msgspec.MsgspecError, UsageError):
        raise UsageError("cursor is not one that a page gave: take that of the page before, or leave it out") from None
