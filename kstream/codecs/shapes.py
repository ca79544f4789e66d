"""What the bytes of a declared type look like: a description that is kept with a store, so that a later type can be
held against it before anything is read (evolution.py).

It is canonical: two types with the same bytes have the same shape, whatever they are called, but for the names of
records, which are for people. It has a form as JSON. Types may be recursive: records are numbered, and referred to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Flag
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, inspect

from kstream.codecs.base import BuiltIn, is_codec, name_of
from kstream.codecs.resolving import unwrap

Limits = dict[str, int | float | str | bool]


class Scalar(msgspec.Struct, frozen=True, tag="scalar", omit_defaults=True):
    """One value of JSON. `kind`: any, null, bool, int, float, str, bytes, or what travels as text (datetime, uuid ...).
    `limits` are those of msgspec.Meta."""

    kind: str
    limits: Limits = {}


class Choice(msgspec.Struct, frozen=True, tag="choice", omit_defaults=True):
    """One of these: of an enum, or a literal. `flag`: or a combination of them."""

    values: tuple[int | str | None, ...]
    flag: bool = False


class Items(msgspec.Struct, frozen=True, tag="items", omit_defaults=True):
    """A list, a set (`unique`), or a tuple of any length."""

    of: Node
    unique: bool = False
    limits: Limits = {}


class Entries(msgspec.Struct, frozen=True, tag="entries", omit_defaults=True):
    """A dict."""

    keys: Node
    of: Node
    limits: Limits = {}


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field of a record.

    Attributes:
        needed: a reader refuses a record without it.
        always: a writer never leaves it out.
        default: what a reader takes where it is not there, as JSON has it; UNSET where that cannot be said.
    """

    name: str
    of: Node
    needed: bool = True
    always: bool = True
    default: Any = UNSET


class Record(msgspec.Struct, frozen=True, tag="record", omit_defaults=True):
    """A class with fields, or a tuple.

    Attributes:
        array: it is written as a list, without the names of its fields.
        closed: a reader refuses fields that it does not know.
        tag: name and value of the field that tells it from others.
    """

    name: str
    fields: tuple[Field, ...]
    array: bool = False
    closed: bool = False
    tag: tuple[str, int | str] | None = None


class Either(msgspec.Struct, frozen=True, tag="either"):
    """One of several types."""

    of: tuple[Node, ...]


class Ref(msgspec.Struct, frozen=True, tag="ref"):
    """A record, by its number in the shape."""

    to: int


Node = Scalar | Choice | Items | Entries | Record | Either | Ref


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """The bytes of a type.

    Attributes:
        codec: "json", "text" (UTF-8), "bytes" (as they are), or the class of a codec of the user's.
        of: what is in them; None where only the codec knows.
        records: those that `Ref` speaks of.
        version: of a codec of the user's that has the attribute `version`.
    """

    codec: str
    of: Node | None = None
    records: tuple[Record, ...] = ()
    version: str | None = None

    @property
    def digest(self) -> str:
        """Short, the same for the same shape."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]

    def __str__(self) -> str:
        if self.of is None:
            version = "" if self.version is None else f", version {self.version}"
            return self.codec if self.codec == "bytes" else f"codec {self.codec}{version}"
        return _words(self.of, self.records, set())


OWN: Final = ("json", "text", "bytes")
"""Codecs of kstream."""

_SCALARS: Final[Mapping[type, str]] = {
    inspect.AnyType: "any",
    inspect.RawType: "any",
    inspect.NoneType: "null",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.MemoryViewType: "bytes",
    inspect.DateTimeType: "datetime",
    inspect.DateType: "date",
    inspect.TimeType: "time",
    inspect.TimeDeltaType: "timedelta",
    inspect.UUIDType: "uuid",
    inspect.DecimalType: "decimal",
}
_SETS: Final = (inspect.SetType, inspect.FrozenSetType)
_LIMITS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_EMPTY: Final = (list, dict, set, frozenset, bytearray)
"""Factories of defaults whose results are known without calling them."""


def shape_of(kind: Any) -> Shape:
    """The shape of a declared type, or of a codec of the user's: its class, and its attribute `version`, if it has one.

    `T | None` is that of T: None is no bytes.
    """
    if is_codec(kind) and not isinstance(kind, BuiltIn):
        version = getattr(kind, "version", None)
        return Shape(name_of(kind), version=None if version is None else str(version))
    base = unwrap(kind)
    if get_origin(base) in (Union, UnionType):
        members = tuple(one for one in get_args(base) if one is not NoneType)
        base = unwrap(Union[members])  # noqa: UP007
    if base is bytes:
        return Shape("bytes")
    if base is str:
        return Shape("text", Scalar("str"))
    try:
        info = inspect.type_info(base)
    except Exception:  # what nobody declared, and codecs of kstream's own that are given as objects
        return Shape("json", Scalar("any"))
    whole = Describing()
    node = whole.node(info)
    inner = info.type if isinstance(info, inspect.Metadata) else info
    if isinstance(inner, inspect.BytesType | inspect.StrType):  # with limits: as without, and checked when read
        return Shape("bytes" if isinstance(inner, inspect.BytesType) else "text", node)
    return Shape("json", node, tuple(whole.records))


class Describing:
    """Describes one type. Records are numbered in the order in which they are met."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._numbers: dict[Any, int] = {}

    def node(self, info: inspect.Type) -> Node:
        if isinstance(info, inspect.Metadata):
            return self.node(info.type)
        if (kind := _SCALARS.get(type(info))) is not None:
            return Scalar(kind, _limits(info))
        match info:
            case inspect.EnumType():
                return Choice(_ordered(one.value for one in info.cls), issubclass(info.cls, Flag))
            case inspect.LiteralType():
                return Choice(_ordered(info.values))
            case inspect.UnionType():
                return Either(tuple(sorted(map(self.node, info.types), key=msgspec.json.encode)))
            case inspect.TupleType():
                items = (Field(str(at), self.node(one)) for at, one in enumerate(info.item_types))
                return Record("tuple", tuple(items), array=True, closed=True)
            case inspect.DictType():
                return Entries(self.node(info.key_type), self.node(info.value_type), _limits(info))
        if hasattr(info, "fields"):
            return self._record(info)
        return Items(self.node(info.item_type), isinstance(info, _SETS), _limits(info))  # type: ignore[attr-defined]

    def _record(self, info: Any) -> Ref:
        key = info.cls  # a parametrised class is another object each time, and equal
        if key in self._numbers:
            return Ref(self._numbers[key])
        number = self._numbers[key] = len(self.records)
        self.records.append(Record("", ()))  # recursive types refer to it
        cls = get_origin(info.cls) or info.cls
        leaves_out = isinstance(info, inspect.StructType) and cls.__struct_config__.omit_defaults
        array = isinstance(info, inspect.NamedTupleType) or bool(getattr(info, "array_like", False))
        fields = tuple(self._field(one, info, leaves_out and not array, array) for one in info.fields)
        tag = None if getattr(info, "tag", None) is None else (info.tag_field, info.tag)
        closed = isinstance(info, inspect.NamedTupleType) or bool(getattr(info, "forbid_unknown_fields", False))
        name = getattr(info.cls, "__name__", None) or str(info.cls)
        self.records[number] = Record(name, fields, array, closed, tag)
        return Ref(number)

    def _field(self, field: inspect.Field, info: Any, leaves_out: bool, array: bool) -> Field:
        default, said = _default(field)
        missing = isinstance(info, inspect.TypedDictType) and not field.required
        unset = field.default is UNSET
        always = array or not (missing or unset or (leaves_out and said))
        return Field(field.encode_name, self.node(field.type), field.required, always, default)


def _default(field: inspect.Field) -> tuple[Any, bool]:
    """The default of a field as JSON has it, and whether a class that leaves out defaults leaves out this one."""
    if field.required:
        return UNSET, False
    if field.default_factory is not inspect.NODEFAULT:  # type: ignore[attr-defined]
        if field.default_factory in _EMPTY:
            return msgspec.to_builtins(field.default_factory()), True
        return UNSET, False
    try:
        return msgspec.to_builtins(field.default), True
    except Exception:  # nothing that JSON could hold: nobody can say what it would be
        return UNSET, True


def _limits(info: Any) -> Limits:
    found = {name: getattr(info, name, None) for name in _LIMITS}
    return {name: limit for name, limit in found.items() if limit is not None}


def _ordered(values: Any) -> tuple[Any, ...]:
    return tuple(sorted(values, key=lambda one: (type(one).__name__, one if one is not None else 0)))


def _words(node: Node, records: tuple[Record, ...], told: set[int]) -> str:
    match node:
        case Scalar():
            kind = {"any": "Any", "null": "None"}.get(node.kind, node.kind)
            return kind + _limited(node.limits)
        case Choice():
            return " | ".join(map(repr, node.values))
        case Items():
            return f"{'set' if node.unique else 'list'}[{_words(node.of, records, told)}]{_limited(node.limits)}"
        case Entries():
            inner = ", ".join(_words(one, records, told) for one in (node.keys, node.of))
            return f"dict[{inner}]{_limited(node.limits)}"
        case Either():
            return " | ".join(_words(one, records, told) for one in node.of)
        case Ref():
            if node.to in told:
                return records[node.to].name
            told.add(node.to)
            return _words(records[node.to], records, told)
    if node.name == "tuple":
        return f"tuple[{', '.join(_words(field.of, records, told) for field in node.fields)}]"
    return f"{node.name}({', '.join(_field_words(field, records, told) for field in node.fields)})"


def _field_words(field: Field, records: tuple[Record, ...], told: set[int]) -> str:
    default = "" if field.needed else f" = {'...' if field.default is UNSET else repr(field.default)}"
    return f"{field.name}: {_words(field.of, records, told)}{default}"


def _limited(limits: Limits) -> str:
    return f" ({', '.join(f'{name} {limit}' for name, limit in limits.items())})" if limits else ""
