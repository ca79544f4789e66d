"""What would not come back as it was is refused, however deep it lies; what comes back is not."""

from __future__ import annotations

import enum
import math
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from kstream.codecs import (
    ColumnError,
    check_entries,
    decode_column,
    decode_value,
    encode_column,
    encode_keys,
    encode_value,
    resolve,
)
from kstream.codecs.checking import SAMPLE, difference
from kstream.errors import CodecError, TopologyError


class Colour(enum.StrEnum):
    RED = "red"


class Total(msgspec.Struct):
    total: int = 0
    mean: float = 0.0


class Deep(msgspec.Struct):
    totals: dict[str, Total]
    path: tuple[int, ...] = ()
    counts: dict[str, int] = msgspec.field(default_factory=dict)


class Keyed(msgspec.Struct):
    """Dicts by what JSON has no keys for."""

    by_number: dict[int, int]
    by_id: dict[UUID, list[dict[Decimal, str]]] = msgspec.field(default_factory=dict)


class Seen(msgspec.Struct, frozen=True):
    at: datetime


class Place(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


class Anonymous(msgspec.Struct, eq=False):
    n: int


class Pair(NamedTuple):
    a: int
    b: int


class Whole(msgspec.Struct):
    """What can be decoded of it is equal: it is not compared."""

    n: int
    seen: bool = False


class Maybe(msgspec.Struct):
    n: int | None = None


class Chain(msgspec.Struct):
    n: int
    behind: Chain | None = None


class Tidied(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n = min(self.n, 100)


class Word(msgspec.Struct):
    text: str


@dataclass
class Box:
    n: int
    tags: set[str] = field(default_factory=set)


class Lossy:
    def encode(self, value: float) -> bytes:
        return f"{value:.1f}".encode()

    def decode(self, data: bytes) -> float:
        return float(data)


class OneWay:
    """Forgets what it was given."""

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data) + 1


def codec_of(kind: Any, **more: Any) -> Any:
    return resolve(kind, what="value of topic 'things'", **more)


BERLIN = ZoneInfo("Europe/Berlin")
SECONDS_OFF = timezone(timedelta(hours=1, seconds=17))

WRONG = [
    (Total, Total(total=0.5)),  # type: ignore[arg-type]
    (Total, Total(total=1.0)),  # type: ignore[arg-type]
    (Total, Total(total=True)),
    (Total, Total(mean=math.nan)),
    (Total, Total(mean=math.inf)),
    (Total, Total(mean=2**53 + 1)),
    (Deep, Deep({"a": Total(total="1")})),  # type: ignore[arg-type]
    (Deep, Deep({}, path=[1])),  # type: ignore[arg-type]
    (Deep, Deep({}, counts=Counter("a"))),
    (Deep, Deep({}, counts=defaultdict(int))),
    (Deep, Deep({}, counts={Colour.RED: 1})),
    (list[int], ["x"]),
    (list[int], [1.0]),
    (list[str], [Colour.RED]),
    (set[int], {1.0}),
    (dict[str, float], {"mean": math.nan}),
    (dict[str, int], OrderedDict(a=1)),
    (dict[int | str, int], {1: 1}),
    (tuple[int, int], Pair(1, 2)),
    (tuple[int, int], [1, 2]),
    (list[bytes], [bytearray(b"a")]),
    (Anonymous, Anonymous(1.0)),  # type: ignore[arg-type]
    (Box, Box(1.0)),  # type: ignore[arg-type]
    (Any, {"a": (1, 2)}),
    (Any, {"a": UUID(int=1)}),
    (Any, {"a": Colour.RED}),
    (Any, {"a": math.nan}),
    (Any, {"a": {1, 2}}),
    (Any, [Counter("a")]),
    (Any, [{"a": Total()}]),
    (Any, {1: 2}),
    (Literal["a", "b"], "c"),
    (Annotated[int, msgspec.Meta(ge=0)], -1),
    (Annotated[str, msgspec.Meta(max_length=1)], "ab"),
    (float, 2**53 + 1),
    (datetime, datetime(2024, 1, 1, tzinfo=SECONDS_OFF)),  # 17 s earlier as JSON
    (time, time(12, tzinfo=SECONDS_OFF)),
    (Seen, Seen(datetime(2024, 1, 1, tzinfo=SECONDS_OFF))),
    (OneWay(), 1),
]

RIGHT = [
    (Total, Total(1, 2)),
    (Deep, Deep({"a": Total(1, 0.5)}, (1, 2), {"b": 1, "a": 2})),
    (Anonymous, Anonymous(1)),
    (Box, Box(1, {"a", "b"})),
    (dict[int, int], {2: 1, 1: 2}),
    (dict[UUID, int], {UUID(int=1): 2}),
    (dict[Decimal, str], {Decimal("1.50"): "a"}),
    (dict[datetime, int], {datetime(2024, 1, 1, tzinfo=UTC): 1}),
    (list[dict[int, str]], [{1: "a"}]),
    (Keyed, Keyed({2: 1, 1: 2}, {UUID(int=1): [{Decimal("1.50"): "a"}]})),
    (list[Decimal], [Decimal("NaN"), Decimal("1.00")]),
    (datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    (Seen, Seen(datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN))),  # the hour that comes twice: equal to nothing else
    (Seen, Seen(datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN))),
    (list[datetime], [datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN)]),  # the hour that does not come
    (int, 2**70),
    (Any, {"id": 36893488147419103233, "deep": [{"x": None, "y": -(2**70)}]}),
    (float | None, None),
    (Lossy(), 1.23),
]


@pytest.mark.parametrize("kind,value", WRONG, ids=range(len(WRONG)))
def test_what_would_not_come_back_is_refused(kind: Any, value: Any) -> None:
    codec = codec_of(kind)
    with pytest.raises(Exception, match=r".+"):
        encode_value(codec, value)
    with pytest.raises(ColumnError) as caught:
        encode_column(codec, [value, value])  # the first of a column is among those that are compared
    assert caught.value.index == 0
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind,good,bad",
    [
        (Whole, Whole(1), Whole(0.5)),  # type: ignore[arg-type]
        (Whole, Whole(1), Whole(1.0)),  # type: ignore[arg-type]
        (Whole, Whole(1), Whole(True)),
        (Whole, Whole(1), Whole("1")),  # type: ignore[arg-type]
        (Whole, Whole(1), Whole(1, seen=1)),  # type: ignore[arg-type]
        (Whole, Whole(1), Box(1)),
        (Chain, Chain(1), Chain(1, {"n": 1})),  # type: ignore[arg-type]
        (Word, Word("a"), Word(UUID(int=1))),  # type: ignore[arg-type]
        (Total, Total(1), Total(mean=2**53 + 1)),
        (Total, Total(1), Total(mean=math.nan)),
        (Deep, Deep({}), Deep({}, path=[1])),  # type: ignore[arg-type]
    ],
)
def test_of_what_is_kept_each_is_looked_at(kind: Any, good: Any, bad: Any) -> None:
    """Also the second of a commit, which is in no sample."""
    codec = codec_of(kind)
    assert codec.plain == (kind is Whole)
    values = [good, bad, good]
    with pytest.raises(ColumnError) as caught:
        check_entries(codec, values, [codec.encode(value) for value in values], SAMPLE)
    assert caught.value.index == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_where_an_int_or_none_is_declared_comes_back_as_none(bad: Any) -> None:
    codec = codec_of(Maybe)
    values = [Maybe(1), Maybe(bad)]
    with pytest.raises(ColumnError):
        check_entries(codec, values, [codec.encode(value) for value in values], SAMPLE)


def test_a_class_that_changes_what_it_is_given_is_compared() -> None:
    tidied = Tidied(1)
    tidied.n = 1000
    codec = codec_of(Tidied)
    values = [Tidied(1), tidied]
    with pytest.raises(ColumnError):
        check_entries(codec, values, [codec.encode(value) for value in values], SAMPLE)


@pytest.mark.parametrize("kind,value", RIGHT, ids=range(len(RIGHT)))
def test_what_comes_back_is_not_refused(kind: Any, value: Any) -> None:
    codec = codec_of(kind)
    data = encode_value(codec, value)
    assert encode_column(codec, [value] * 3, every=1) == [data] * 3
    if not isinstance(kind, Lossy):
        assert difference(value, decode_value(codec, data)) is None


def test_the_message_says_where_it_differs() -> None:
    for kind, value, where in [
        (Total, Total(total=0.5), r"Expected `int`, got `float` - at `\$.total`"),  # type: ignore[arg-type]
        (Total, Total(total=1.0), r"Expected `int`, got `float` - at `\$\.total`"),  # type: ignore[arg-type]
        (Total, Total(mean=math.nan), r"JSON has neither NaN nor infinity: Expected `float`, got `null`"),
        (Deep, Deep({}, path=[1]), r"\.path: list \[1\] comes back as tuple \(1,\)"),  # type: ignore[arg-type]
        (Deep, Deep({}, counts=Counter("a")), r"\.counts: Counter"),
        (Any, {"a": [1, (2,)]}, r"\['a'\]\[1\]: tuple \(2,\) comes back as list \[2\].*declare value=<type>"),
        (dict[str, Any], {"a": math.nan}, r"\['a'\]: float nan comes back as NoneType None"),
    ]:
        with pytest.raises(CodecError, match=where):
            encode_value(codec_of(kind), value)


class TestColumns:
    """Every value of untyped JSON is compared, and one of `every` of the others; numbers that JSON lacks are found."""

    def test_untyped(self) -> None:
        column: list[Any] = [{"a": 1}] * 200
        column[137] = {"a": (1,)}
        with pytest.raises(ColumnError) as caught:
            encode_column(codec_of(dict), column)
        assert caught.value.index == 137

    def test_typed_is_sampled(self) -> None:
        column = [Total() for _ in range(2 * SAMPLE)]
        column[SAMPLE] = Total(total=0.5)  # type: ignore[arg-type]
        with pytest.raises(ColumnError) as caught:
            encode_column(codec_of(Total), column)
        assert caught.value.index == SAMPLE
        column[SAMPLE], column[SAMPLE + 1] = Total(), column[SAMPLE]
        encode_column(codec_of(Total), column)
        with pytest.raises(ColumnError) as caught:
            encode_column(codec_of(Total), column, every=1)
        assert caught.value.index == SAMPLE + 1

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nan_inside_is_always_found(self, bad: float) -> None:
        column = [Total(mean=0.5) for _ in range(SAMPLE)]
        column[7] = Total(mean=bad)
        with pytest.raises(ColumnError) as caught:
            encode_column(codec_of(Total), column)
        assert caught.value.index == 7

    def test_the_word_null_is_no_null(self) -> None:
        class Named(msgspec.Struct):
            name: str
            x: float

        assert encode_column(codec_of(Named), [Named("null", 1.0)] * 3) == [b'{"name":"null","x":1.0}'] * 3

    def test_nullable(self) -> None:
        codec = codec_of(Total | None)
        assert encode_column(codec, [None, Total()]) == [None, b'{"total":0,"mean":0.0}']
        with pytest.raises(ColumnError) as caught:
            encode_column(codec, [None, Total(total=0.5)], every=1)  # type: ignore[arg-type]
        assert caught.value.index == 1


GOOD_KEYS: dict[Any, Any] = {
    int: 1, float: 1.5, str: "a", tuple[int, int]: (1, 2), Pair: Pair(1, 2), Any: "a", Place: Place(1.0),
    tuple[float, str]: (1.0, "a"),
}  # fmt: skip


class TestKeys:
    @pytest.mark.parametrize(
        "kind,key",
        [
            (int, True),
            (int, 1.0),
            (int, "7"),
            (float, 1),  # 1 and 1.0 are equal and would be two groups
            (float, math.nan),
            (str, 7),
            (str, Colour.RED),
            (tuple[int, int], [1, 2]),
            (tuple[int, int], (1, 2.0)),
            (tuple[int, int], Pair(1, 2)),
            (Pair, Pair(1, 2.0)),  # type: ignore[arg-type]
            (Place, Place(1)),  # equal to Place(1.0)
            (tuple[float, str], (1, "a")),
            (Any, (1, 2)),
            (Any, [1, (2, 3)]),
            (Any, UUID(int=1)),
        ],
    )
    def test_of_the_wrong_type(self, kind: Any, key: Any) -> None:
        codec = codec_of(kind, key=True)
        for late in range(3):
            good = GOOD_KEYS[kind]
            with pytest.raises(ColumnError) as caught:
                encode_keys(codec, [good] * late + [key, None])
            assert caught.value.index == late

    def test_untyped_keys_say_what_to_declare(self) -> None:
        with pytest.raises(ColumnError, match="declare key=<type>"):
            encode_keys(codec_of(None, key=True), [(1, 2)])

    def test_equal_keys_with_other_bytes_say_so(self) -> None:
        with pytest.raises(ColumnError, match=r"\.x: int 1 comes back as float 1\.0.*compared by their bytes"):
            encode_keys(codec_of(Place, key=True), [Place(1)])

    def test_a_time_that_comes_twice_is_a_key(self) -> None:
        keys = [Seen(datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=BERLIN)) for fold in (0, 1)]
        codec = codec_of(Seen, key=True)
        assert len(set(encode_keys(codec, keys))) == 2
        assert [encode_value(codec, key, exact=False) for key in keys] == encode_keys(codec, keys)

    @pytest.mark.parametrize("kind", [None, dict, dict[str, dict[str, int]]])
    def test_the_order_of_a_dict_makes_no_other_key(self, kind: Any) -> None:
        keys = [{"b": {"d": 1, "c": 2}, "a": {}}, {"a": {}, "b": {"c": 2, "d": 1}}]
        one, other = encode_keys(codec_of(kind, key=True), keys)
        assert one == other

    def test_equal_sets_give_equal_bytes(self) -> None:
        codec = codec_of(frozenset[str], key=True)
        words = [f"w{n}" for n in range(20)]
        assert len(set(encode_keys(codec, [frozenset(words), frozenset(reversed(words))]))) == 1

    def test_a_type_without_one_form(self) -> None:
        with pytest.raises(TopologyError, match=r"dict\[int, int\] cannot be a key"):
            codec_of(dict[int, int], key=True)


@pytest.mark.parametrize("kind", [dict[tuple[int, int], int], list[dict[bool, int]], dict[Pair, int]])
def test_dicts_that_json_has_no_keys_for_are_refused_where_they_are_declared(kind: Any) -> None:
    with pytest.raises(TopologyError, match="keys of a dict"):
        codec_of(kind)


def test_a_dict_keeps_its_order() -> None:
    for kind in (dict, dict[str, int], dict[int, int]):
        value = {1: 1, 0: 2} if kind == dict[int, int] else {"b": 1, "a": 2}
        (back,) = decode_column(codec_of(kind), encode_column(codec_of(kind), [value]))
        assert list(back) == list(value)


class TestJsonNull:
    @pytest.mark.parametrize("kind", [Total | None, int | None, list[int] | None, dict | None, Total | int | None])
    def test_is_none_where_none_is_declared(self, kind: Any) -> None:
        codec = codec_of(kind)
        assert decode_column(codec, [b"null", None, b" null "]) == [None, None, None]
        assert decode_value(codec, b"null") is None

    @pytest.mark.parametrize("kind", [None, Any, dict, Total, int])
    def test_is_named_where_it_is_not(self, kind: Any) -> None:
        with pytest.raises(ColumnError, match=r"JSON null in a topic not declared `T \| None`"):
            decode_column(codec_of(kind), [b"null"])

    def test_is_text_in_text(self) -> None:
        assert decode_column(codec_of(str | None), [b"null"]) == ["null"]


def test_integers_of_untyped_json_are_exact() -> None:
    data = b'{"id":36893488147419103233}'
    (value,) = decode_column(codec_of(None), [data])
    assert value == {"id": 36893488147419103233}
    assert encode_column(codec_of(None), [value]) == [data]
