"""Whether a type reads what another one wrote. The promise is held against the codecs themselves: what is said to be
read is decoded; what is known to be refused is in a table, with its reason."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Required, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from kstream.codecs import resolve
from kstream.codecs.evolution import misread
from kstream.codecs.shapes import Shape, shape_of
from kstream.errors import TopologyError
from kstream.specs.schema import UNKNOWN


def struct(name: str = "Bid", /, *fields: Any, **config: Any) -> type:
    return msgspec.defstruct(name, list(fields), **config)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class MoreColours(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Movie(TypedDict):
    title: str


class DatedMovie(TypedDict):
    title: str
    year: NotRequired[int]


class StrictMovie(TypedDict):
    title: str
    year: Required[int]


class Pair(NamedTuple):
    a: int
    b: str


class Three(NamedTuple):
    a: int
    b: str
    c: int = 0


class Node(msgspec.Struct):
    value: int
    next: Node | None = None


class WiderNode(msgspec.Struct):
    value: float
    next: WiderNode | None = None
    note: str = ""


class BrokenNode(msgspec.Struct):
    value: int
    next: BrokenNode | None = None
    inner: list[int] = []


class BrokenInside(msgspec.Struct):
    value: int
    next: list[BrokenInside] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int


@dataclasses.dataclass
class Place:
    x: float
    y: float
    label: str = ""


class Added(msgspec.Struct, tag=True):
    item: str


class Removed(msgspec.Struct, tag=True):
    item: str


class Emptied(msgspec.Struct, tag=True):
    pass


Was = struct("Bid", ("price", int), ("bidder", str))

READS: list[tuple[str, Any, Any]] = [
    ("the same", Was, Was),
    ("a field with a default", Was, struct("Bid", ("price", int), ("bidder", str), ("note", str, ""))),
    ("a field in between", Was, struct("Bid", ("price", int), ("note", str, ""), ("bidder", str), kw_only=True)),
    ("an optional field", Was, struct("Bid", ("price", int), ("bidder", str), ("at", int | None, None))),
    ("a field that is gone", Was, struct("Bid", ("price", int))),
    ("int to float", Was, struct("Bid", ("price", float), ("bidder", str))),
    ("a field that may be None", Was, struct("Bid", ("price", int | None), ("bidder", str))),
    ("another name of the class", Was, struct("Offer", ("price", int), ("bidder", str))),
    ("a dataclass for a struct", struct("P", ("x", int), ("y", int)), Point),
    ("a wider dataclass", Point, Place),
    ("a dict for a record", Was, dict[str, Any]),
    ("a typed dict that gained a key that is not required", Movie, DatedMovie),
    ("a named tuple that grew", Pair, Three),
    ("a wider enum", Colour, MoreColours),
    ("text for an enum", list[Colour], list[str]),
    ("int for an enum of ints", list[Level], list[int]),
    ("more literals", Literal["a"], Literal["a", "b"]),
    ("a wider union", Added | Removed, Added | Removed | Emptied),
    ("a union of what was alone", Added, Added | Removed),
    ("None added", int, int | None),
    ("anything", list[int], Any),
    ("what nobody declared", list[int], UNKNOWN),
    ("bytes as they are", Was, bytes),
    ("a recursive type that grew", Node, WiderNode),
    ("list for set", set[int], list[int]),
    ("set for list", list[int], set[int]),
    ("list for tuple", tuple[int, int], list[int]),
    ("text for a time", list[datetime], list[str]),
    ("a looser limit", Annotated[int, msgspec.Meta(ge=5)], Annotated[int, msgspec.Meta(ge=0)]),
    ("no limit any more", Annotated[str, msgspec.Meta(max_length=3)], str),
    ("left out, with the same default", struct("A", ("n", int, 0), omit_defaults=True), struct("A", ("n", int, 0))),
    ("Decimal for int", list[int], list[Decimal]),
]  # fmt: skip

REFUSES: list[tuple[str, Any, Any, str]] = [
    ("a field without a default", Was, struct("Bid", ("price", int), ("bidder", str), ("n", int)), "field n is new"),
    ("another type of a field", Was, struct("Bid", ("price", str), ("bidder", str)), "field price was int, and is str"),
    ("float to int", struct("A", ("n", float)), struct("A", ("n", int)), "field n was float"),
    ("unknown fields forbidden", Was, struct("Bid", ("price", int), forbid_unknown_fields=True), "bidder is gone"),
    ("no None any more", list[int | None], list[int], "its item"),
    ("a required key", DatedMovie, StrictMovie, "year may be left out"),
    ("a shorter named tuple", Three, Pair, "3 items"),
    ("fewer values of an enum", MoreColours, Colour, "green"),
    ("a narrower union", Added | Removed, Added, "tag"),
    ("another tag", Added, Removed, "tag type='Added'"),
    ("JSON for text", str, Was, "written by str"),
    ("text for JSON", Was, str, "read by str"),
    ("untyped that is typed now", Any, Was, "Any"),
    ("inside of a recursive type", Node, BrokenInside, "field next"),
    ("a tighter limit", int, Annotated[int, msgspec.Meta(ge=0)], "ge 0"),
    ("a time for text", list[str], list[datetime], "datetime"),
    ("another default for what is left out", struct("A", ("n", int, 0), omit_defaults=True),
     struct("A", ("n", int, 5)), "left out in what is stored where it is 0, and would be read as 5"),
    ("a list for a record", struct("A", ("n", int)), struct("A", ("n", int), array_like=True), "written as an object"),
    ("an int where a union has literals", list[int], list[float | Literal[1]], "its item"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [row[1:] for row in READS], ids=[row[0] for row in READS])
def test_it_reads(old: Any, new: Any) -> None:
    assert misread(shape_of(new), shape_of(old)) is None


@pytest.mark.parametrize(("old", "new", "why"), [row[1:] for row in REFUSES], ids=[row[0] for row in REFUSES])
def test_it_says_why_not(old: Any, new: Any, why: str) -> None:
    said = misread(shape_of(new), shape_of(old))
    assert said is not None and why in said


KEYS: list[tuple[str, Any, Any, bool]] = [
    ("the same", int, int, True),
    ("float for int: 1 and 1.0 are other bytes", int, float, False),
    ("a field more", struct("K", ("a", int)), struct("K", ("a", int), ("b", int, 0)), False),
    ("other order", struct("K", ("a", int), ("b", int)), struct("K", ("b", int), ("a", int)), False),
    ("another name of the class", struct("K", ("a", int)), struct("L", ("a", int)), True),
    ("bytes for text", str, bytes, True),
    ("a wider enum", Colour, MoreColours, True),
    ("a wider union", int, int | bool, True),
    ("a looser limit", Annotated[int, msgspec.Meta(ge=5)], int, True),
    ("quotes", UUID, str, False),
]


@pytest.mark.parametrize(("old", "new", "fits"), [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
def test_keys_must_keep_their_bytes(old: Any, new: Any, fits: bool) -> None:
    assert (misread(shape_of(new), shape_of(old), key=True) is None) is fits


class Packed:
    def __init__(self, version: Any = None) -> None:
        if version is not None:
            self.version = version

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data)


def test_codecs_of_the_users_go_by_class_and_version() -> None:
    assert misread(shape_of(Packed()), shape_of(Packed())) is None
    assert misread(shape_of(Packed(2)), shape_of(Packed("2"))) is None
    assert "version 1 of Packed wrote them, and it has version 2 now" in str(
        misread(shape_of(Packed(2)), shape_of(Packed(1)))
    )
    assert misread(shape_of(Packed(2)), shape_of(Packed(1)), reads=frozenset({"1"})) is None
    assert "written by codec Packed, and are read by a type that travels as JSON" in str(
        misread(shape_of(int), shape_of(Packed()))
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (struct("Bid", ("price", int), ("note", str, "")), "Bid(price: int, note: str = '')"),
        (Node, "Node(value: int, next: Node | None = None)"),
        (dict[str, list[int | None]], "dict[str, list[int | None]]"),
        (Annotated[int, msgspec.Meta(ge=0)], "int (ge 0)"),
        (tuple[int, str], "tuple[int, str]"),
        (Colour, "'blue' | 'red'"),
        (bytes, "bytes"),
        (str, "str"),
        (Packed(3), "codec Packed, version 3"),
    ],
    ids=["record", "recursive", "nested", "limits", "tuple", "enum", "bytes", "str", "codec"],
)
def test_shapes_in_words(kind: Any, words: str) -> None:
    assert str(shape_of(kind)) == words


@pytest.mark.parametrize(
    "kind", [Was, Node, WiderNode, Added | Removed, Three, dict[int, set[Colour]], Place, Packed(1)]
)
def test_a_shape_comes_back_as_it_was_and_has_one_digest(kind: Any) -> None:
    shape = shape_of(kind)
    back = msgspec.json.decode(msgspec.json.encode(shape), type=Shape)
    assert back.digest == shape.digest == shape_of(kind).digest
    assert misread(back, shape) is None and misread(shape, back) is None


# ---- types at random, without limits: msgspec 0.22 crashes on a union of a tuple and a number that has some

Spec = tuple[Any, ...]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
ATOMS: dict[str, tuple[Any, st.SearchStrategy[Any], Any]] = {
    "int": (int, st.integers(-(2**53), 2**53), 0),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False), 0.0),
    "bool": (bool, st.booleans(), False),
    "str": (str, TEXT, ""),
    "bytes": (bytes, st.binary(max_size=3), b""),
    "uuid": (UUID, st.uuids(), UUID(int=0)),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False), Decimal(0)),
    "span": (timedelta, st.timedeltas(), timedelta()),
    "literal": (Literal["a", "b"], st.sampled_from("ab"), "a"),
    "more": (Literal["a", "b", "c"], st.sampled_from("abc"), "a"),
    "one": (Literal[1, 2], st.sampled_from([1, 2]), 1),
    "colour": (Colour, st.sampled_from(Colour), Colour.RED),
    "any": (Any, TEXT | st.integers(0, 5) | st.lists(st.booleans(), max_size=2), None),
}
NAMES = ("a", "b", "c")
FORMS = ("struct", "leaves out", "array", "forbids", "dataclass", "typed", "named", "tagged a", "tagged b")


def records(inner: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    fields = st.lists(st.tuples(st.sampled_from(NAMES), inner, st.booleans()), max_size=3, unique_by=lambda one: one[0])
    return st.tuples(
        st.just("record"), st.sampled_from(FORMS), fields.map(lambda found: sorted(found, key=lambda f: f[2]))
    )


SPECS = st.recursive(
    st.sampled_from(sorted(ATOMS)).map(lambda name: (name,)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["list", "dict", "opt", "set"]), inner),
        st.tuples(st.just("tuple"), st.lists(inner, min_size=1, max_size=2)),
        st.tuples(st.just("union"), st.lists(inner, min_size=2, max_size=3)),
        records(inner),
    ),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, spec: Spec) -> Spec:
    """A type like this one, with a few changes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(SPECS)
    match spec:
        case ("record", form, fields):
            fields = [
                (name, draw(changed(inner)), default if draw(st.booleans()) else draw(st.booleans()))
                for name, inner, default in fields
                if draw(st.integers(0, 5))
            ]
            free = [name for name in NAMES if name not in {one[0] for one in fields}]
            if free and draw(st.booleans()):
                fields.append((free[0], draw(SPECS), draw(st.integers(0, 3)) > 0))
            form = form if draw(st.integers(0, 3)) else draw(st.sampled_from(FORMS))
            return ("record", form, sorted(fields, key=lambda one: one[2]))
        case ("list" | "dict" | "opt" | "set" as kind, inner):
            return (kind, draw(changed(inner)))
        case ("tuple" | "union" as kind, inner):
            more = [draw(SPECS)] if kind == "union" and draw(st.booleans()) else []
            return (kind, [draw(changed(one)) for one in inner] + more)
    wider = {"int": "float", "literal": "more", "uuid": "str", "one": "int", "colour": "str"}
    if draw(st.booleans()):
        return (wider.get(spec[0], spec[0]),)
    return spec if draw(st.integers(0, 2)) else ("opt", spec)


def made(spec: Spec) -> tuple[Any, st.SearchStrategy[Any]]:
    """The type, and its values."""
    if spec[0] in ATOMS:
        return ATOMS[spec[0]][:2]
    match spec:
        case ("list", inner):
            kind, values = made(inner)
            return list[kind], st.lists(values, max_size=2)  # type: ignore[valid-type]
        case ("set", inner):
            assume(inner[0] in ATOMS and inner[0] != "any")
            kind, values = made(inner)
            return set[kind], st.sets(values, max_size=2)  # type: ignore[valid-type]
        case ("dict", inner):
            kind, values = made(inner)
            return dict[str, kind], st.dictionaries(TEXT, values, max_size=2)  # type: ignore[valid-type]
        case ("opt", inner):
            kind, values = made(inner)
            return kind | None if kind is not Any else kind, values
        case ("tuple", inner):
            parts = [made(one) for one in inner]
            return tuple[tuple(kind for kind, _ in parts)], st.tuples(*(values for _, values in parts))  # type: ignore[misc]
        case ("union", inner):
            parts = [made(one) for one in inner]
            kind = parts[0][0]
            for other, _ in parts[1:]:
                assume(kind is not Any and other is not Any)
                kind = kind | other
            return kind, st.one_of(*(values for _, values in parts))
        case ("record", form, fields):
            return _record(form, fields)
    raise AssertionError(spec)


def _record(form: str, fields: list[tuple[str, Spec, bool]]) -> tuple[Any, st.SearchStrategy[Any]]:
    parts = []
    for name, inner, default in fields:
        kind, values = made(inner)
        first = ATOMS[inner[0]][2] if inner[0] in ATOMS else None
        if default and first is None and kind is not Any:
            kind, values = kind | None, values | st.none()
        parts.append((name, kind, values, default, first))
    columns = {name: values for name, _, values, _, _ in parts}
    with_defaults = [(name, kind, first) if default else (name, kind) for name, kind, _, default, first in parts]
    match form:
        case "dataclass":
            rows = [
                (name, kind, dataclasses.field(default=first)) if default else (name, kind)
                for name, kind, _, default, first in parts
            ]
            cls: Any = dataclasses.make_dataclass("R", rows)
        case "typed":
            cls = TypedDict("R", {name: NotRequired[k] if d else k for name, k, _, d, _ in parts})  # type: ignore[misc]
            needed = {name: values for name, _, values, default, _ in parts if not default}
            return cls, st.fixed_dictionaries(needed, optional={n: v for n, _, v, d, _ in parts if d})
        case "named":
            cls = NamedTuple("R", [(name, kind) for name, kind, *_ in parts])  # type: ignore[misc]
        case _:
            config: dict[str, Any] = {
                "leaves out": {"omit_defaults": True}, "array": {"array_like": True},
                "forbids": {"forbid_unknown_fields": True}, "tagged a": {"tag": "a"}, "tagged b": {"tag": "b"},
            }.get(form, {})  # fmt: skip
            cls = msgspec.defstruct("R", with_defaults, **config)
    return cls, st.builds(cls, **columns)


PAIRS = SPECS.flatmap(lambda spec: st.tuples(st.just(spec), changed(spec) | SPECS))


@given(PAIRS, st.data())
def test_what_is_said_to_be_read_is_decoded(pair: tuple[Spec, Spec], data: st.DataObject) -> None:
    (old, values), (new, _) = made(pair[0]), made(pair[1])
    try:
        writer, reader = resolve(old, what="old"), resolve(new, what="new")
    except TopologyError:
        assume(False)
    fits = misread(shape_of(new), shape_of(old)) is None
    event("read" if fits else "refused")
    if pair[0] == pair[1]:
        assert fits, "a type reads itself"
    value = data.draw(values)
    assume(value is not None)
    if fits:
        reader.decode(writer.encode(value))


@given(PAIRS, st.data())
def test_keys_that_are_said_to_fit_have_the_same_bytes(pair: tuple[Spec, Spec], data: st.DataObject) -> None:
    (old, values), (new, _) = made(pair[0]), made(pair[1])
    try:
        writer, reader = resolve(old, what="old", key=True), resolve(new, what="new", key=True)
    except TopologyError:
        assume(False)
    fits = misread(shape_of(new), shape_of(old), key=True) is None
    value = data.draw(values)
    assume(value is not None)
    if fits:
        event("fits")
        key = writer.encode(value)
        assume(writer.encode(writer.decode(key)) == key)  # others are refused when they are written
        assert reader.encode(reader.decode(key)) == key


T = TypeVar("T")


class Box(msgspec.Struct, Generic[T], omit_defaults=True):
    item: T
    n: int = 0


def test_classes_with_parameters() -> None:
    """As open sessions and parts of sliding windows are."""
    assert misread(shape_of(Box[float]), shape_of(Box[int])) is None
    assert misread(shape_of(list[Box[int]]), shape_of(list[Box[float]])) is not None
    assert shape_of(Box[int]).records[0].fields[1].always is False
