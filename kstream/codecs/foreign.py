"""What the two sides of a foreign-key join of tables tell each other, and what each keeps of it."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn

T = TypeVar("T")


class Subscription(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A row of the left asks for one of the right. The tag is the version of this form.

    Attributes:
        key: of the row of the left, encoded.
        token: what the answers to it say; None: it asks no more.
    """

    key: bytes
    token: bytes | None


class Answer(msgspec.Struct, array_like=True, tag=1, gc=False):
    """What the right has, for a row of the left.

    Attributes:
        token: of the row that asked.
        value: encoded; None: there is no row.
    """

    token: bytes
    value: bytes | None


class Asked(msgspec.Struct, array_like=True, tag=1, gc=False):
    """What a row of the left asks for now.

    Attributes:
        token: answers with another one are to an earlier row.
        key: of the right, encoded.
    """

    token: bytes
    key: bytes


def _codec(kind: type[T], name: str) -> BuiltIn[T]:
    encode: Any = msgspec.msgpack.Encoder().encode
    return BuiltIn(name, encode, msgspec.msgpack.Decoder(kind).decode, accepts=frozenset({kind}), sure=True)


SUBSCRIPTIONS: Final = _codec(Subscription, "subscriptions")
ANSWERS: Final = _codec(Answer, "answers")
ASKED: Final = _codec(Asked, "what is asked for")
