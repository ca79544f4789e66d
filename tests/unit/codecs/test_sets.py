"""Keys with sets in them: the types that could not be written, or not always in the same way, are refused."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest

import kstream
from kstream.codecs import resolve
from kstream.errors import TopologyError
from kstream.specs.schema import schema
from unit.codecs.test_checking import codec_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Flags(enum.Flag):
    ONE = 1
    TWO = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Size(enum.Enum):
    S = "s"
    L = "l"

    def __lt__(self, other: Size) -> bool:
        return self.value < other.value


class Plain(msgspec.Struct, frozen=True):
    n: int


class Ordered(msgspec.Struct, frozen=True, order=True):
    n: int


class OfColours(msgspec.Struct, frozen=True, order=True):
    n: Colour


class ByHand(msgspec.Struct, frozen=True):
    colour: Colour

    def __lt__(self, other: ByHand) -> bool:
        return self.colour.value < other.colour.value


class Tree(msgspec.Struct, frozen=True, order=True):
    n: int
    below: tuple[Tree, ...] = ()


@dataclass(frozen=True)
class Data:
    n: int


@dataclass(frozen=True, order=True)
class OrderedData:
    n: int


class Pair(NamedTuple):
    a: int
    b: str


class HasSet(msgspec.Struct, frozen=True):
    of: frozenset[Colour]


REFUSED: list[tuple[Any, str]] = [
    (set[Colour], "Colour is an enum without an order"),
    (frozenset[Flags], "Flags is an enum without an order"),
    (tuple[set[Colour], bool], "Colour is an enum without an order"),
    (HasSet, "Colour is an enum without an order"),
    (HasSet | None, "Colour is an enum without an order"),
    (list[dict[str, set[Colour]]], "Colour is an enum without an order"),
    (kstream.Windowed[frozenset[Colour]], "Colour is an enum without an order"),
    (set[tuple[int, Colour]], "Colour is an enum without an order"),
    (set[Plain], "Plain has no order"),
    (set[Data], "Data has no order"),
    (set[OfColours], "Colour is an enum without an order"),
    (set[frozenset[int]], "sets are compared by what is in them"),
    (set[int | str], "members of several types cannot be compared"),
    (set[int | None], "members of several types cannot be compared"),
    (set[Ordered | int], "members of several types cannot be compared"),
    (set[Literal[1, "a"]], "values of a Literal cannot be compared"),
    (set[list[int]], "a list cannot be in a set"),
    (set[dict[str, int]], "a dict cannot be in a set"),
]
TAKEN: list[tuple[Any, list[Any]]] = [
    (set[int], [1, 2]),
    (set[int | float], [1, 2.5]),
    (set[Annotated[int, msgspec.Meta(gt=0)]], [1, 2]),
    (frozenset[str], ["a", "b"]),
    (set[bytes], [b"a", b"b"]),
    (set[Level], list(Level)),
    (set[Word], list(Word)),
    (set[Size], list(Size)),
    (set[Literal["a", "b"]], ["a", "b"]),
    (set[Ordered], [Ordered(1), Ordered(2)]),
    (set[ByHand], [ByHand(Colour.RED), ByHand(Colour.BLUE)]),
    (set[Tree], [Tree(1), Tree(1, (Tree(2),))]),
    (set[OrderedData], [OrderedData(1), OrderedData(2)]),
    (set[Pair], [Pair(1, "a"), Pair(1, "b")]),
    (set[tuple[int, ...]], [(1, 2), (1,)]),
    (set[datetime], [datetime(2020, 1, 1), datetime(2021, 1, 1)]),
    (set[date], [date(2020, 1, 1), date(2021, 1, 1)]),
    (set[timedelta], [timedelta(1), timedelta(2)]),
    (set[Decimal], [Decimal(1), Decimal(2)]),
    (set[uuid.UUID], [uuid.UUID(int=1), uuid.UUID(int=2)]),
    (set, [1, 2]),
    (set[Any], ["a", "b"]),
]


@pytest.mark.parametrize(("kind", "why"), REFUSED, ids=lambda one: str(one)[:60])
def test_keys_that_cannot_be_written_are_refused_where_they_are_declared(kind: Any, why: str) -> None:
    with pytest.raises(TopologyError) as error:
        resolve(kind, what="the key of topic 'in'", key=True)
    line = str(error.value)
    assert line.startswith("the key of topic 'in': ") and "cannot be a key" in line and why in line
    assert line.endswith("; use a sorted tuple") and "\n" not in line
    if kind not in (set[list[int]], set[dict[str, int]], kstream.Windowed[frozenset[Colour]]):
        resolve(kind, what="a value")  # as a value it goes


@pytest.mark.parametrize(("kind", "members"), TAKEN, ids=lambda one: str(one)[:60])
def test_others_have_the_same_bytes_however_they_were_put_together(kind: Any, members: list[Any]) -> None:
    codec = codec_of(kind, key=True)
    one, other = set(members), set(reversed(members))
    key = codec.encode(one)
    assert key == codec.encode(other) == codec.encode(codec.decode(key))


def test_every_way_to_declare_a_key_looks() -> None:
    def colours(value: int) -> frozenset[Colour]:
        return frozenset()

    app = kstream.App("sets")
    kind: Any = frozenset[Colour]
    source = app.topic("in", key=str, value=int)
    stream = app.stream(source)
    table = app.stream(app.topic("rows", key=str, value=int)).to_table("rows")
    ways: dict[str, Any] = {
        "topic": lambda: app.topic("other", key=kind, value=int),
        "windowed": lambda: app.topic("windows", key=kstream.Windowed[kind], value=int),
        "table": lambda: app.table("t", key=kind, value=int),
        "rekey": lambda: stream.rekey(colours),
        "group_by": lambda: stream.group_by(colours),
        "key=": lambda: stream.group_by(lambda value: frozenset(), key=kind),
        "regrouped": lambda: table.group_by(colours),
        "deduplicate": lambda: stream.deduplicate(colours, within=timedelta(seconds=1), name="d"),
        "distinct": lambda: stream.group_by_key().count_distinct(colours, name="n"),
    }
    for way, declare in ways.items():
        with pytest.raises(TopologyError, match="cannot be a key: a set in it"):
            declare()
            pytest.fail(way)
    assert schema(kind, "a value").kind is kind
