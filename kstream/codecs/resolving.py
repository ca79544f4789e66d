"""From a declared type to its codec.

bytes travel as they are, str as UTF-8, dict, list, Any and undeclared types as untyped JSON (orjson), every other type
that msgspec knows as typed JSON, decoded straight into the type. `T | None` is T with tombstones.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

import msgspec
import orjson
from msgspec import inspect

from kstream.codecs.base import JSON, BuiltIn, Codec
from kstream.errors import TopologyError

_UNTYPED: Final = (dict, list, Any, object)

# What orjson would quietly turn into something else is refused instead. Keys of a dict are left in their order.
_dumps = partial(
    orjson.dumps,
    option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS,
)

# Sets and dicts in sorted order, so that equal values give equal bytes.
_typed_encode = msgspec.json.Encoder(order="deterministic").encode

_CLASSES: Final[dict[type, frozenset[type]]] = {
    inspect.BoolType: frozenset({bool}),
    inspect.IntType: frozenset({int}),
    inspect.FloatType: frozenset({float, int}),
    inspect.StrType: frozenset({str}),
    inspect.BytesType: frozenset({bytes}),
    inspect.NoneType: frozenset({NoneType}),
    inspect.ListType: frozenset({list}),
    inspect.SetType: frozenset({set}),
    inspect.FrozenSetType: frozenset({frozenset}),
    inspect.VarTupleType: frozenset({tuple}),
    inspect.TupleType: frozenset({tuple}),
    inspect.DictType: frozenset({dict}),
    inspect.TypedDictType: frozenset({dict}),
    inspect.DateTimeType: frozenset({datetime}),
    inspect.DateType: frozenset({date}),
    inspect.TimeType: frozenset({time}),
    inspect.TimeDeltaType: frozenset({timedelta}),
    inspect.DecimalType: frozenset({Decimal}),
    inspect.UUIDType: frozenset({UUID}),
}


def resolve(kind: Any, *, what: str) -> Codec[Any]:
    """The codec of a declared type, or `kind` itself when it is a codec (an object with `encode` and `decode`).

    `what` names the declaration in errors: "value of topic 'bids'".

    Numbers that JSON lacks (NaN, infinity) are refused as values of their own, and become null inside other values.
    Untyped JSON turns tuples, UUIDs and enums inside a dict or list into lists and strings: declare the type.

    Raises:
        TopologyError: nothing here can carry the type.
    """
    if kind is None:
        return _untyped(Any, nullable=False)
    if not isinstance(kind, type) and all(callable(getattr(kind, name, None)) for name in ("encode", "decode")):
        return typing.cast(Codec[Any], kind)
    base = _unwrap(kind)
    nullable = False
    if get_origin(base) in (Union, UnionType):
        members = get_args(base)
        nullable = NoneType in members
        if nullable:
            base = _unwrap(Union[tuple(one for one in members if one is not NoneType)])  # noqa: UP007
    if base is bytes:
        return BuiltIn("bytes", bytes.__bytes__, bytes.__bytes__, nullable, _with_null({bytes}, nullable))
    if base is str:
        return BuiltIn("str", str.encode, bytes.decode, nullable, _with_null({str}, nullable))
    if base in _UNTYPED:
        return _untyped(base, nullable)
    return _typed(base, nullable, what)


def _unwrap(kind: Any) -> Any:
    """The type behind NewType, `type` aliases and annotations that are not msgspec's."""
    while True:
        if isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif get_origin(kind) is Annotated and not any(isinstance(one, msgspec.Meta) for one in kind.__metadata__):
            kind = kind.__origin__
        elif type(kind).__name__ == "TypeAliasType":  # typing's from 3.12 on, typing_extensions' before
            kind = kind.__value__
        else:
            return kind


def _untyped(kind: Any, nullable: bool) -> Codec[Any]:
    classes = {kind} if kind in (dict, list) else JSON
    return BuiltIn(_name(kind), _dumps, orjson.loads, nullable, _with_null(classes, nullable), loose=True, nulls=True)


def _typed(kind: Any, nullable: bool, what: str) -> Codec[Any]:
    if kind is NoneType:
        raise TopologyError(f"{what}: None alone is no type; declare `T | None`")
    try:
        decoder = msgspec.json.Decoder(kind)
        info = inspect.type_info(kind)
    except Exception as error:  # TypeError mostly; NameError for a forward reference that leads nowhere
        reason = " ".join(str(error).split())
        raise TopologyError(f"{what}: {_name(kind)} cannot be carried as JSON: {reason}") from error
    for part in _parts(info, set()):
        if isinstance(part, inspect.CustomType):
            inside = "" if part.cls is kind else f" (inside {_name(kind)})"
            raise TopologyError(
                f"{what}: {_name(part.cls)}{inside} is not a type msgspec can decode; use a msgspec.Struct, "
                "a dataclass, a TypedDict or the like, or an instance of a codec class (with encode and decode)"
            )
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, (inspect.StrType, inspect.BytesType)) and get_origin(kind) is Annotated:
        return _constrained(kind, nullable)
    classes = _classes(info)
    accepts = None if classes is None else _with_null(classes, nullable)
    nulls = accepts is None or float in accepts
    return BuiltIn(_name(kind), _typed_encode, decoder.decode, nullable, accepts, nulls=nulls)


def _constrained(kind: Any, nullable: bool) -> Codec[Any]:
    """str or bytes with msgspec.Meta: the same bytes as without, checked when read."""
    base = kind.__origin__
    plain = resolve(base, what="")

    def decode(data: bytes) -> Any:
        return msgspec.convert(plain.decode(data), kind, builtin_types=(bytes,))

    return BuiltIn(_name(base), plain.encode, decode, nullable, _with_null({base}, nullable))


def _with_null(classes: set[type] | frozenset[type], nullable: bool) -> frozenset[type]:
    return frozenset(classes | {NoneType}) if nullable else frozenset(classes)


def _classes(info: inspect.Type) -> frozenset[type] | None:
    """The exact classes of the values that `info` describes; None when that cannot be said."""
    if isinstance(info, inspect.Metadata):
        return _classes(info.type)
    if isinstance(info, inspect.UnionType):
        members = [_classes(one) for one in info.types]
        return None if None in members else frozenset().union(*(one for one in members if one is not None))
    if isinstance(info, inspect.LiteralType):
        return frozenset(map(type, info.values))
    cls = getattr(info, "cls", None)
    if cls is not None and not isinstance(info, inspect.TypedDictType):
        return frozenset({get_origin(cls) or cls})
    return _CLASSES.get(type(info))


def _parts(info: Any, seen: set[int]) -> Iterator[inspect.Type]:
    """`info` and every type inside it (types may be recursive)."""
    if id(info) in seen:
        return
    seen.add(id(info))
    yield info
    for name in ("type", "item_type", "key_type", "value_type"):
        if isinstance(part := getattr(info, name, None), inspect.Type):
            yield from _parts(part, seen)
    for name in ("types", "item_types", "fields"):
        for part in getattr(info, name, ()):
            yield from _parts(part.type if isinstance(part, inspect.Field) else part, seen)


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
