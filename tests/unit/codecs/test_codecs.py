"""The conformance suite that every codec passes, and what is special about some."""

from __future__ import annotations

import enum
import json
import math
import pathlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import (
    ColumnError,
    copier,
    decode_column,
    decode_keys,
    decode_value,
    encode_column,
    encode_keys,
    encode_value,
    resolve,
)
from kstream.errors import CodecError, TopologyError

INT64 = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# JSON has no lone surrogates
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | FLOATS | TEXT,
    lambda inner: st.lists(inner | st.none()) | st.dictionaries(TEXT, inner | st.none()),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.just(UTC))


class Bid(msgspec.Struct):
    auction: int
    bidder: str
    at: datetime


class Tree(msgspec.Struct):
    left: Tree | None = None
    tags: set[str] = msgspec.field(default_factory=set)


@dataclass
class Point:
    x: float
    label: str


class Movie(TypedDict):
    title: str
    year: int


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Opened(msgspec.Struct, tag=True):
    by: str


class Closed(msgspec.Struct, tag=True):
    why: int


class Reversed:
    """A user's own codec."""

    def encode(self, value: str) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes) -> str:
        return data.decode()[::-1]


UserId = NewType("UserId", str)
TREES = st.recursive(
    st.builds(Tree, tags=st.sets(TEXT, max_size=3)), lambda inner: st.builds(Tree, left=inner), max_leaves=3
)

CASES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bytes": (bytes, st.binary()),
    "str": (str, TEXT),
    "newtype": (UserId, TEXT),
    "constrained str": (Annotated[str, msgspec.Meta(max_length=5)], st.text("abc", max_size=5)),
    "dict": (dict, st.dictionaries(TEXT, JSON)),
    "list": (list, st.lists(JSON)),
    "Any": (Any, JSON),
    "undeclared": (None, JSON),
    "int": (int, INT64),
    "float": (float, FLOATS),
    "bool": (bool, st.booleans()),
    "datetime": (datetime, TIMES),
    "Decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "UUID": (UUID, st.uuids()),
    "enum": (Colour, st.sampled_from(Colour)),
    "literal": (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
    "Struct": (Bid, st.builds(Bid, INT64, TEXT, TIMES)),
    "recursive Struct": (Tree, TREES),
    "dataclass": (Point, st.builds(Point, FLOATS, TEXT)),
    "TypedDict": (Movie, st.fixed_dictionaries({"title": TEXT, "year": INT64})),
    "NamedTuple": (Pair, st.builds(Pair, INT64, TEXT)),
    "tagged union": (Opened | Closed, st.builds(Opened, TEXT) | st.builds(Closed, INT64)),
    "union": (int | str, INT64 | TEXT),
    "list of int": (list[int], st.lists(INT64)),
    "dict of Struct": (dict[str, Pair], st.dictionaries(TEXT, st.builds(Pair, INT64, TEXT))),
    "set": (set[str], st.sets(TEXT)),
    "tuple": (tuple[int, str], st.tuples(INT64, TEXT)),
    "tuples": (tuple[int, ...], st.lists(INT64).map(tuple)),
    "constrained int": (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 2**63)),
    "user codec": (Reversed(), TEXT),
}


def codec_of(kind: Any) -> Any:
    return resolve(kind, what="value of topic 'things'")


@pytest.mark.parametrize("kind,values", CASES.values(), ids=CASES.keys())
class TestEveryCodec:
    @pytest.mark.parametrize("key", [False, True], ids=["value", "key"])
    def test_round_trip_is_exact_and_of_keys_canonical(
        self, key: bool, kind: Any, values: st.SearchStrategy[Any]
    ) -> None:
        codec = resolve(kind, what="what is tried", key=key)

        @given(st.lists(values, max_size=5))
        def check(column: list[Any]) -> None:
            encoded = encode_column(codec, column)
            assert all(type(data) is bytes for data in encoded)
            decoded = decode_column(codec, encoded)
            assert decoded == column
            assert list(map(type, decoded)) == list(map(type, column))
            if key:
                assert encode_column(codec, decoded) == encoded
            else:  # a set comes back as a set, in whatever order
                assert decode_column(codec, encode_column(codec, decoded)) == column
            assert [decode_value(codec, encode_value(codec, value)) for value in column] == column
            assert list(map(copier(codec), column)) == column

        check()

    def test_null_is_an_error_unless_declared(self, kind: Any, values: st.SearchStrategy[Any]) -> None:
        codec = codec_of(kind)

        @given(values, st.integers(0, 3))
        def check(value: Any, at: int) -> None:
            column: list[Any] = [value] * at + [None, value]
            with pytest.raises(ColumnError, match=r"null value in a topic not declared `T \| None`") as caught:
                encode_column(codec, column)
            assert caught.value.index == at
            encoded = [*encode_column(codec, [value] * at), None]
            with pytest.raises(ColumnError, match=r"null value in a topic not declared `T \| None`") as caught:
                decode_column(codec, encoded)
            assert caught.value.index == at
            with pytest.raises(CodecError):
                encode_value(codec, None)

        check()

    def test_keys_may_always_be_missing(self, kind: Any, values: st.SearchStrategy[Any]) -> None:
        codec = codec_of(kind)

        @given(st.lists(values | st.none(), max_size=6))
        def check(keys: list[Any]) -> None:
            encoded = encode_keys(codec, keys)
            assert [data is None for data in encoded] == [key is None for key in keys]
            assert decode_keys(codec, encoded) == keys

        check()

    def test_nullable(self, kind: Any, values: st.SearchStrategy[Any]) -> None:
        if kind is None or isinstance(kind, Reversed):
            pytest.skip("not a type")
        codec = codec_of(Optional[kind])  # noqa: UP045
        assert codec.nullable

        @given(st.lists(values | st.none(), max_size=6))
        def check(column: list[Any]) -> None:
            encoded = encode_column(codec, column)
            assert [data is None for data in encoded] == [value is None for value in column]
            assert decode_column(codec, encoded) == column
            assert encode_value(codec, None) is None and decode_value(codec, None) is None

        check()
        assert [data for data in encode_column(codec, [None]) if data] == []

    def test_empty_column(self, kind: Any, values: st.SearchStrategy[Any]) -> None:
        codec = codec_of(kind)
        assert decode_column(codec, []) == encode_column(codec, []) == decode_keys(codec, []) == []


BAD = {"str": (str, b"\xff"), "dict": (dict, b"{"), "int": (int, b'"x"'), "Struct": (Bid, b'{"auction": "x"}')}


@pytest.mark.parametrize("kind,data", BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_named_by_its_index(kind: Any, data: bytes) -> None:
    codec = codec_of(kind)
    good = {str: b"a", dict: b"{}", int: b"1", Bid: b'{"auction":1,"bidder":"b","at":"2013-01-01T00:00:00Z"}'}[kind]
    with pytest.raises(ColumnError) as caught:
        decode_column(codec, [good, good, data, good, data])
    assert caught.value.index == 2
    assert caught.value.__cause__ is not None
    assert repr(data) in str(caught.value)
    with pytest.raises(ColumnError) as caught:
        decode_keys(codec, [None, good, None, data])
    assert caught.value.index == 3


class Looked(msgspec.Struct):
    """A class whose own code fails as `next` does: a `map` over a column would end there, and the rest be lost."""

    n: int

    def __post_init__(self) -> None:
        next(known for known in (1, 2) if known == self.n)


def test_a_class_that_raises_stop_iteration_fails_at_its_record() -> None:
    codec = resolve(Looked, what="it")
    with pytest.raises(ColumnError, match="cannot decode Looked: StopIteration") as caught:
        decode_column(codec, [b'{"n":1}', b'{"n":3}', b'{"n":2}'])
    assert caught.value.index == 1


def test_the_excerpt_is_short() -> None:
    with pytest.raises(ColumnError) as caught:
        decode_column(codec_of(int), [b"7", b'"' + b"x" * 10_000 + b'"'])
    assert len(str(caught.value)) < 250 and "x" * 79 in str(caught.value) and "x" * 81 not in str(caught.value)
    with pytest.raises(ColumnError) as caught:
        encode_column(codec_of(int), ["y" * 10_000])
    assert len(str(caught.value)) < 250


class Sub(Bid):
    extra: int = 0


@pytest.mark.parametrize(
    "kind,value",
    [
        (dict, Point(1.0, "a")),
        (dict, {"p": Point(1.0, "a")}),
        (Any, {"s": Bid(1, "a", datetime.now(UTC))}),
        (Any, {"at": datetime.now(UTC)}),
        (Any, (1, 2)),
        (Any, uuid4()),
        (Any, Colour.RED),
        (Any, {1: "key that is no str"}),
        (dict, [1]),
        (int, "1"),
        (int, True),
        (int, 1.5),
        (float, "1"),
        (str, 1),
        (bytes, "a"),
        (bytes, bytearray(b"a")),
        (list[int], (1, 2)),
        (Bid, {"auction": 1, "bidder": "a", "at": "2013-01-01T00:00:00Z"}),
        (Bid, Sub(1, "a", datetime.now(UTC), 5)),
        (Opened | Closed, Pair(1, "a")),
    ],
)
def test_what_would_not_come_back_is_refused(kind: Any, value: Any) -> None:
    codec = codec_of(kind)
    with pytest.raises(ColumnError) as caught:
        encode_column(codec, [value])
    assert caught.value.index == 0
    with pytest.raises(Exception, match=r".+"):
        encode_value(codec, value)


def test_untyped_json_asks_for_a_type() -> None:
    with pytest.raises(ColumnError, match="declare value=<type>"):
        encode_column(codec_of(None), [Point(1.0, "a")])
    with pytest.raises(ColumnError, match="declare value=<type>"):
        encode_column(codec_of(None), [{"a": Point(1.0, "a")}])
    with pytest.raises(ColumnError, match="declare value=<type>"):
        encode_column(codec_of(None), [(1, 2)])


@pytest.mark.parametrize("kind", [float, Any, float | int])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_lacks(kind: Any, number: float) -> None:
    with pytest.raises(ColumnError, match="neither NaN nor infinity"):
        encode_column(codec_of(kind), [1.0, number])


def test_whole_floats() -> None:
    assert decode_column(codec_of(float), encode_column(codec_of(float), [1])) == [1.0]


def test_json_null_is_no_value() -> None:
    for kind in (Any, int):
        with pytest.raises(ColumnError):
            decode_column(codec_of(kind), [b"1", b"null"])
    with pytest.raises(ColumnError):
        decode_column(codec_of(dict), [b"[]"])


def test_str_is_plain_utf8() -> None:
    for kind in (str, str | None, UserId, Annotated[str, "a note"], Annotated[str, msgspec.Meta(min_length=1)]):
        assert encode_column(codec_of(kind), ["ä"]) == ["ä".encode()]
    with pytest.raises(ColumnError, match="length"):
        decode_column(codec_of(Annotated[str, msgspec.Meta(max_length=1)]), [b"ab"])


def test_equal_dicts_are_equal_keys() -> None:
    codec = resolve(dict[str, int], what="key", key=True)
    assert codec.encode({"a": 1, "b": 2}) == codec.encode({"b": 2, "a": 1})


def test_user_codec_is_taken_as_it_is() -> None:
    mine = Reversed()
    assert codec_of(mine) is mine
    with pytest.raises(ColumnError, match="Reversed") as caught:
        decode_column(mine, [b"ok", b"\xff"])
    assert caught.value.index == 1


def test_user_codec_may_be_nullable() -> None:
    class Mine(Reversed):
        nullable = True

    assert encode_column(Mine(), ["ab", None]) == [b"ba", None]
    assert decode_column(Mine(), [b"ba", None]) == ["ab", None]


def test_module_like_codecs() -> None:
    class Adapter:
        encode = staticmethod(lambda value: json.dumps(value).encode())
        decode = staticmethod(json.loads)

    assert decode_column(codec_of(Adapter()), [b"[1]"]) == [[1]]


@pytest.mark.parametrize(
    "kind,reason",
    [
        (pathlib.Path, "Path is not a type msgspec can decode"),
        (dict[str, pathlib.Path], r"Path \(inside dict\[str, pathlib.*Path\]\) is not"),
        (Reversed, "Reversed is not a type msgspec can decode.*an instance of a codec class"),
        (Bid | Point, "cannot be carried as JSON: .*"),
        (type(None), "declare `T | None`"),
        ("Unknown", "cannot be carried as JSON.*; give the type itself"),
        (5, "give the type itself"),
        (lambda: None, "cannot be carried as JSON|is not a type"),
    ],
)
def test_a_type_nothing_can_carry(kind: Any, reason: str) -> None:
    with pytest.raises(TopologyError, match=reason) as caught:
        codec_of(kind)
    assert str(caught.value).startswith("value of topic 'things': ")
    assert "\n" not in str(caught.value)


def test_forward_reference_that_leads_nowhere() -> None:
    class Lost(msgspec.Struct):
        child: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TopologyError, match="Nowhere"):
        codec_of(Lost)


class TestCopier:
    def test_is_deep(self) -> None:
        value = {"a": [1, {"b": 2}]}
        copied = copier(codec_of(dict))(value)
        value["a"][1]["b"] = 3  # type: ignore[index]
        assert copied == {"a": [1, {"b": 2}]}

    def test_structs_are_copied_atoms_are_not(self) -> None:
        bid = Bid(1, "a", datetime.now(UTC))
        copied = copier(codec_of(Bid))(bid)
        assert copied == bid and copied is not bid
        for kind, atom in [
            (str, "x" * 100), (int, 2**60), (datetime, datetime.now(UTC)), (UUID, uuid4()),
            (Decimal, Decimal("1.5")), (Colour, Colour.RED), (timedelta, timedelta(seconds=3)),
        ]:  # fmt: skip
            assert copier(codec_of(kind))(atom) is atom
        assert copier(codec_of(Optional[Bid]))(None) is None  # noqa: UP045

    def test_failure_names_the_codec(self) -> None:
        with pytest.raises(CodecError, match="cannot copy a Point by way of the codec of dict"):
            copier(codec_of(dict))(Point(1.0, "a"))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements")
def test_type_aliases() -> None:
    import typing

    alias = typing.TypeAliasType("alias", str)  # type: ignore[attr-defined,unused-ignore]
    assert encode_column(codec_of(alias), ["a"]) == [b"a"]
