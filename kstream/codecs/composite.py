"""Codecs of keys that have the key of a record in them, and more: those of windows and of timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kstream.codecs.base import BuiltIn, Codec, name_of, sure_classes

C = TypeVar("C")


def composite_codec(
    kind: type[C],
    inner: Codec[Any],
    encode: Callable[[C], bytes],
    decode: Callable[[bytes], C],
    shown: type[msgspec.Struct],
    *,
    window_of: tuple[Codec[Any], bool] | None = None,
    to_topic: Callable[[bytes], bytes] | None = None,
) -> BuiltIn[C]:
    """The codec of such a key.

    Args:
        kind: its class, whose fields are those of `shown`.
        inner: the codec of the record's key.
        shown: the object as which it is written for people, in JSON: first `key`, a msgspec.Raw, then the rest.
        window_of, to_topic: as in BuiltIn.
    """
    make: Callable[..., C] = kind

    def parse(data: bytes) -> C:
        from kstream.codecs.text import key_from_json

        key, *rest = msgspec.structs.astuple(msgspec.json.decode(data, type=shown))
        return make(key_from_json(inner, key), *rest)

    return BuiltIn(
        f"{kind.__name__}[{name_of(inner)}]",
        encode,
        decode,
        accepts=frozenset({kind}),
        side="key",
        sure=bool(sure_classes(inner)),
        parse=parse,
        window_of=window_of,
        to_topic=to_topic,
    )
