"""The codec protocol, and what the built-in codecs know about themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from kstream.errors import CodecError

T = TypeVar("T")

JSON: Final[frozenset[type]] = frozenset({dict, list, str, int, float, bool})
"""The classes that untyped JSON gives back as they were, None aside."""

ATOMS: Final[frozenset[type]] = frozenset(
    {int, float, bool, str, bytes, type(None), datetime, date, time, timedelta, Decimal, UUID}
)
"""Exact classes whose instances never change. Frozen classes are not among them: what they hold may change."""

Side = Literal["key", "value"]


class Codec(Protocol[T]):
    """Carries values of one type. Any object with these two, methods or callables, will do as `key=` or `value=`.

    `encode(decode(encode(x))) == encode(x)` must hold (it is tried now and then), and equal keys must give equal bytes:
    keys are compared and partitioned by their bytes. Neither is ever called with None, unless the object is used
    without the helpers here. An object may say `nullable = True`; then None travels as a null value (a tombstone).
    """

    @property
    def encode(self) -> Callable[[T], bytes]: ...
    @property
    def decode(self) -> Callable[[bytes], T]: ...


@dataclass(frozen=True, slots=True)
class BuiltIn(Generic[T]):
    """A codec of kstream: `encode` and `decode` are C callables wherever there is one, for `map` over a column.

    Attributes:
        name: the declared type, for messages.
        nullable: None is carried as null.
        accepts: the exact classes of the values that come back as they went in; None when that is not known
            (a tuple comes back from JSON as a list, a subclass as its base: a stateful app would behave otherwise
            after a restart). Checked for a whole column in one C-level pass.
        loose: untyped JSON: `decode` may return other types than `accepts`, so its results are checked too, and
            `encode` takes many that it does not give back, so all that it writes is read back and compared.
        nulls: a null in what `encode` makes stands for a value that is not None (NaN, infinity), and nothing else.
        json: the bytes are JSON.
        sure: all values of the accepted classes come back as they were (int, str, UUID; not float or datetime).
        plain: records of whole numbers and bools: what can be decoded is equal to what was encoded.
        side: what it was declared as. Equal keys have equal bytes; values keep the order of their dicts.
        parse: from JSON, where the bytes are something else that people do not write.
        window_of: of keys of windows: the codec of the key in them, and whether they have the form of stores.
        to_topic: of keys in the form of stores: what makes of one the form that it has in topics.
    """

    name: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    nullable: bool = False
    accepts: frozenset[type] | None = None
    loose: bool = False
    nulls: bool = False
    json: bool = False
    side: Side = "value"
    sure: bool = False
    plain: bool = False
    parse: Callable[[bytes], T] | None = None
    window_of: tuple[Codec[Any], bool] | None = None
    to_topic: Callable[[bytes], bytes] | None = None


class ColumnError(CodecError):
    """A value of a column could not be encoded or decoded; `__cause__` is the codec's own error.

    Attributes:
        index: where in the column it lies; what is before it was fine.
        reading: whether it could not be decoded.
    """

    def __init__(self, message: str, index: int, *, reading: bool = False) -> None:
        super().__init__(message)
        self.index, self.reading = index, reading


def is_codec(kind: object) -> bool:
    """Whether a declared type is a codec object: one with `encode` and `decode`."""
    return not isinstance(kind, type) and all(callable(getattr(kind, name, None)) for name in ("encode", "decode"))


def is_nullable(codec: Codec[Any]) -> bool:
    return bool(getattr(codec, "nullable", False))


def holds_none(codec: Codec[Any]) -> bool:
    """Whether None may be among values of this codec, as one without a value: where it says so, or nobody declared the
    type."""
    return is_nullable(codec) or (isinstance(codec, BuiltIn) and codec.loose)


def sure_classes(codec: Codec[Any]) -> frozenset[type]:
    """The exact classes whose values all come back as they were, None aside; empty when each must be looked at."""
    sure = isinstance(codec, BuiltIn) and codec.sure
    return (codec.accepts or frozenset()) - {type(None)} if isinstance(codec, BuiltIn) and sure else frozenset()


def name_of(codec: Codec[Any]) -> str:
    return codec.name if isinstance(codec, BuiltIn) else type(codec).__name__
