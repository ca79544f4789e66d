"""From a declared type to its codec.

bytes travel as they are, str as UTF-8, dict, list, Any and undeclared types as untyped JSON, every other type that
msgspec knows as typed JSON, decoded straight into the type. `T | None` is T with tombstones.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import inspect

from kstream.codecs.base import ATOMS, JSON, BuiltIn, Codec, Side, is_codec
from kstream.codecs.sets import SETS, NoOrder, check_members
from kstream.codecs.spans import WindowedSpan, span_codec
from kstream.codecs.windowed import Windowed, windowed_codec
from kstream.errors import TopologyError

_UNTYPED: Final = (dict, list, Any, object)

_ENCODE: Final = {
    "value": msgspec.json.Encoder().encode,  # a dict keeps its order
    "key": msgspec.json.Encoder(order="deterministic").encode,  # sets and dicts sorted: equal keys, equal bytes
}

_DICT_KEYS: Final = (
    inspect.StrType, inspect.IntType, inspect.FloatType, inspect.DecimalType, inspect.UUIDType, inspect.BytesType,
    inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType, inspect.EnumType,
    inspect.LiteralType, inspect.AnyType,
)  # fmt: skip
"""What may be a key of a dict inside JSON."""

_WHOLE: Final = (inspect.IntType, inspect.BoolType)

_SURE: Final = ATOMS - {float, datetime, time}
"""All their values come back: floats lack NaN, and a time zone may be off by seconds, which JSON's times leave out."""

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


def resolve(kind: Any, *, what: str, key: bool = False) -> Codec[Any]:
    """The codec of a declared type, or `kind` itself when it is a codec (an object with `encode` and `decode`).

    `what` names the declaration in errors: "value of topic 'bids'". With `key`, equal objects give equal bytes.

    Raises:
        TopologyError: nothing here can carry the type, or it cannot be a key.
    """
    side: Side = "key" if key else "value"
    if kind is None:
        return _untyped(Any, False, side)
    if is_codec(kind):
        return typing.cast(Codec[Any], kind)
    base = unwrap(kind)
    nullable = False
    if get_origin(base) in (Union, UnionType):
        members = get_args(base)
        nullable = NoneType in members
        if nullable:
            base = unwrap(Union[tuple(one for one in members if one is not NoneType)])  # noqa: UP007
    if base is bytes:
        accepts = _with_null({bytes}, nullable)
        return BuiltIn("bytes", bytes.__bytes__, bytes.__bytes__, nullable, accepts, side=side, sure=True)
    if base is str:
        accepts = _with_null({str}, nullable)
        return BuiltIn("str", str.encode, bytes.decode, nullable, accepts, side=side, sure=True)
    if base in _UNTYPED:
        return _untyped(base, nullable, side)
    if get_origin(base) is Windowed:
        return windowed_codec(resolve(*get_args(base), what=what, key=True))
    if get_origin(base) is WindowedSpan:
        return span_codec(resolve(*get_args(base), what=what, key=True))
    return _typed(base, nullable, what, side)


def unwrap(kind: Any) -> Any:
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


def _untyped(kind: Any, nullable: bool, side: Side) -> Codec[Any]:
    classes = {kind} if kind in (dict, list) else JSON
    decode = msgspec.json.Decoder().decode
    accepts = _with_null(classes, nullable)
    return BuiltIn(_name(kind), _ENCODE[side], decode, nullable, accepts, loose=True, json=True, side=side)


def _typed(kind: Any, nullable: bool, what: str, side: Side) -> Codec[Any]:
    if kind is NoneType:
        raise TopologyError(f"{what}: None alone is no type; declare `T | None`")
    try:
        decoder = msgspec.json.Decoder(Union[kind, None] if nullable else kind)  # noqa: UP007  # JSON null is None, too
        info = inspect.type_info(kind)
    except Exception as error:  # TypeError mostly; NameError for a forward reference that leads nowhere
        reason = " ".join(str(error).split())
        if not isinstance(kind, type) and get_origin(kind) is None:
            reason += "; give the type itself, such as int, list[int] or a class"
        raise TopologyError(f"{what}: {_name(kind)} cannot be carried as JSON: {reason}") from error
    parts = list(_parts(info, set()))
    for part in parts:
        if isinstance(part, inspect.DictType):
            _check_dict(part, kind, what, side)
        if side == "key" and isinstance(part, SETS):
            _check_set(part, kind, what)
        if isinstance(part, inspect.CustomType):
            inside = "" if part.cls is kind else f" (inside {_name(kind)})"
            raise TopologyError(
                f"{what}: {_name(part.cls)}{inside} is not a type msgspec can decode; use a msgspec.Struct, "
                "a dataclass, a TypedDict or the like, or an instance of a codec class (with encode and decode)"
            )
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, (inspect.StrType, inspect.BytesType)) and get_origin(kind) is Annotated:
        return _constrained(kind, nullable, side)
    classes = _classes(info)
    if side == "key" and classes is not None and float in classes and int not in _declared(kind):
        classes -= {int}  # 1 and 1.0 are equal, and would be two keys
    accepts = None if classes is None else _with_null(classes, nullable)
    floats = any(isinstance(part, inspect.FloatType) for part in parts)
    nulls = floats and not any(isinstance(part, (inspect.NoneType, inspect.AnyType)) for part in parts)
    sure = kind in _SURE or isinstance(info, inspect.EnumType)
    return BuiltIn(
        _name(kind), _ENCODE[side], decoder.decode, nullable, accepts, nulls=nulls, json=True, side=side, sure=sure,
        plain=_is_plain(info),
    )  # fmt: skip


def _is_plain(info: inspect.Type) -> bool:
    """Whether it is a record of whole numbers: they have a form in JSON that nothing else has.

    Others are to be compared: a number in a field of floats may lose digits, None may come of NaN, text of a UUID, a
    record inside of a dict.
    """
    if not isinstance(info, inspect.StructType) or hasattr(info.cls, "__post_init__"):
        return False
    kinds = [field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,) for field in info.fields]
    return all(isinstance(one, _WHOLE) for types in kinds for one in types)


def _declared(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _check_dict(part: inspect.DictType, kind: Any, what: str, side: Side) -> None:
    """JSON's objects have strings for keys: msgspec makes them of what has a form as text."""
    inner = part.key_type
    for one in inner.types if isinstance(inner, inspect.UnionType) else (inner,):
        one = one.type if isinstance(one, inspect.Metadata) else one
        if not isinstance(one, _DICT_KEYS):
            found = type(one).__name__.removesuffix("Type").lower()
            raise TopologyError(
                f"{what}: {_name(kind)} cannot be carried as JSON: the keys of a dict must be str, a number, a date or "
                f"time, UUID, bytes or an enum, not {found}; use a list of pairs"
            )
        if side == "key" and not isinstance(one, (inspect.StrType, inspect.AnyType)):
            raise TopologyError(
                f"{what}: {_name(kind)} cannot be a key: a dict whose keys are not str has no order of its own, and "
                "equal keys must have equal bytes; use a sorted tuple of pairs"
            )


def _check_set(part: inspect.SetType | inspect.FrozenSetType, kind: Any, what: str) -> None:
    try:
        check_members(part)
    except NoOrder as error:
        raise TopologyError(
            f"{what}: {_name(kind)} cannot be a key: a set in it is written in the order of its members, and {error}; "
            "use a sorted tuple"
        ) from None


def _constrained(kind: Any, nullable: bool, side: Side) -> Codec[Any]:
    """str or bytes with msgspec.Meta: the same bytes as without, checked when read."""
    base = kind.__origin__
    plain = resolve(base, what="", key=side == "key")

    def decode(data: bytes) -> Any:
        return msgspec.convert(plain.decode(data), kind, builtin_types=(bytes,))

    return BuiltIn(_name(base), plain.encode, decode, nullable, _with_null({base}, nullable), side=side)


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
