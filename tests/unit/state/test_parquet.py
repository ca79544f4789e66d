"""Entries as Parquet: what is written can be read, by others too, and what others write can be read here."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pyarrow
import pyarrow.parquet
import pytest

from kstream.errors import SnapshotError, UsageError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.forms import EVENT, NEVER, WALL, headers_of, packed
from kstream.state.parquet import FORM, TYPE, partition_in, read_table, write_table


@dataclass
class Point:
    x: int
    y: float = 0.0


class Trip(msgspec.Struct):
    name: str
    points: list[Point]
    tags: dict[str, int] = {}
    at: datetime | None = None


class Typed(TypedDict, total=False):
    a: int
    b: str


class Row(msgspec.Struct, array_like=True):
    a: int


class Colour(enum.Enum):
    RED = "red"


class Own:
    """A codec of the user's."""

    def encode(self, value: int) -> bytes:
        return b"%x" % value

    def decode(self, data: bytes) -> int:
        return int(data, 16)


def spec(key: Any, value: Any) -> StoreSpec:
    return StoreSpec("s", schema(key, "key", key=True), schema(value, "value"))


def written(tmp_path: Path, store: StoreSpec, rows: dict[Any, Any]) -> Path:
    entries = {store.key.codec.encode(key): store.value.codec.encode(value) for key, value in rows.items()}
    path = tmp_path / "table.parquet"
    assert write_table(path, store, entries.items, {"kstream.partition": "3"}) == len(rows)
    assert {key: value for key, value, _ in read_table(path, store)} == entries
    return path


WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "values", "form", "as_read"),
    [
        (int, [1, -5, 2**62], "plain", [1, -5, 2**62]),
        (int, [2**80], "json", [str(2**80)]),
        (float, [1.5, 2.0], "plain", [1.5, 2.0]),
        (bool, [True, False], "plain", [True, False]),
        (str, ["ü", ""], "plain", ["ü", ""]),
        (bytes, [b"\xff", b""], "bytes", [b"\xff", b""]),
        (datetime, [WHEN], "plain", ["2026-01-02T03:04:05Z"]),
        (UUID, [UUID(int=5)], "plain", [str(UUID(int=5))]),
        (Point, [Point(1), Point(2, 2.5)], "plain", [{"x": 1, "y": 0.0}, {"x": 2, "y": 2.5}]),
        (
            Trip,
            [Trip("a", [Point(1)], {"k": 2}, WHEN)],
            "plain",
            [{"name": "a", "points": [{"x": 1, "y": 0.0}], "tags": [("k", 2)], "at": "2026-01-02T03:04:05Z"}],
        ),
        (list[int], [[1, 2], []], "plain", [[1, 2], []]),
        (dict[str, float], [{"a": 1.0}, {}], "plain", [[("a", 1.0)], []]),
        (Typed, [{"a": 1, "b": "x"}], "plain", [{"a": 1, "b": "x"}]),
        (Typed, [{"a": 1}], "json", ['{"a":1}']),  # a field that is not there is not one that is null
        (Row, [Row(1)], "json", ["[1]"]),
        (int | str, [1, "a"], "json", ["1", '"a"']),
        (Any, [{"a": [1, None]}], "json", ['{"a":[1,null]}']),
        (Own(), [255], "bytes", [b"ff"]),
        (Decimal, [Decimal("1.10")], None, None),
        (Colour, [Colour.RED], None, None),
    ],
    ids=lambda value: str(getattr(value, "__name__", value))[:40] if not isinstance(value, Own) else "Own",
)
def test_values_come_back_and_others_can_read_them(
    tmp_path: Path, kind: Any, values: list[Any], form: str | None, as_read: list[Any] | None
) -> None:
    path = written(tmp_path, spec(int, kind), dict(enumerate(values)))
    column = pyarrow.parquet.read_schema(path).field("value")
    if form is not None:
        assert column.metadata[FORM].decode() == form
        assert pyarrow.parquet.read_table(path).column("value").to_pylist() == as_read
    assert column.metadata[TYPE]
    assert partition_in(path) == 3


def test_keys_have_types_too(tmp_path: Path) -> None:
    path = written(tmp_path, spec(PointKey, int), {PointKey(1): 2})
    assert pyarrow.parquet.read_table(path).to_pylist() == [{"key": {"x": 1, "y": 0.0}, "value": 2}]


@dataclass(frozen=True)
class PointKey:
    x: int
    y: float = 0.0


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (float, [b"1", b"1.0"]),
        (PointKey, [b'{"x": 1, "y": 0.0}', b'{"x":1,"y":0.0}', b'{"x":1}']),
        (datetime, [b"2026-01-02T03:04:05+00:00", b"2026-01-02T03:04:05Z"]),
        (dict[str, Any], [b'{"x": 1}', b'{"x":1}']),
    ],
    ids=str,
)
def test_keys_keep_their_bytes_however_others_have_written_them(tmp_path: Path, kind: Any, keys: list[bytes]) -> None:
    """An aggregation has an entry for the bytes of a record's key: written otherwise it would be another key's."""
    store, path = spec(kind, int), tmp_path / "table.parquet"
    rows = [(key, b"%d" % number) for number, key in enumerate(keys)]
    write_table(path, store, lambda: rows, {})
    assert [(key, value) for key, value, _ in read_table(path, store)] == rows


@dataclass
class Tree:
    name: str
    below: list[Tree] = field(default_factory=list)
    first: Tree | None = None


def test_a_type_that_has_itself_inside_is_json(tmp_path: Path) -> None:
    path = written(tmp_path, spec(str, Tree), {"a": Tree("a", [Tree("b")], Tree("c"))})
    assert pyarrow.parquet.read_schema(path).field("value").metadata[FORM] == b"json"


def test_a_store_of_many_rows_is_written_in_groups(tmp_path: Path) -> None:
    path = written(tmp_path, spec(int, int), {number: number for number in range(50_001)})
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3


def test_a_value_that_fits_no_column_late_in_the_file_changes_the_whole_column(tmp_path: Path) -> None:
    rows: dict[Any, Any] = {number: number for number in range(30_000)}
    rows[30_000] = 2**70
    path = written(tmp_path, spec(int, int), rows)
    assert pyarrow.parquet.read_schema(path).field("value").metadata[FORM] == b"json"


def foreign(tmp_path: Path, **columns: list[Any]) -> Path:
    path = tmp_path / "foreign.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_what_others_wrote_is_read_by_its_types(tmp_path: Path) -> None:
    path = foreign(tmp_path, key=["a", "b"], value=[{"x": 1, "y": 2.0}, {"x": 3, "y": None}], more=[1, 2])
    store = spec(str, Point)
    rows = read_table(path, store)
    assert next(rows) == (b"a", store.value.codec.encode(Point(1, 2.0)), None)
    with pytest.raises(UsageError, match="value of s is not Point"):
        next(rows)
    assert partition_in(path) is None


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"key": [1]}, "no column value"),
        ({"key": ["a"], "value": ["text"]}, "not int"),
        ({"key": [None], "value": [1]}, "has no key"),
        ({"key": ["a"], "value": [None]}, "has no value"),
    ],
    ids=["column", "type", "key", "value"],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, columns: dict[str, list[Any]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        list(read_table(foreign(tmp_path, **columns), spec(str, int)))


def test_damage_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, spec(int, int), {1: 1})
    with pytest.raises(SnapshotError, match="checksum"):
        list(read_table(path, spec(int, int), "0" * 64))
    path.write_bytes(b"no Parquet")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        list(read_table(path, spec(int, int)))
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        partition_in(path)


def test_damage_anywhere_in_a_file_is_one_line(tmp_path: Path) -> None:
    entries = spec(str, Point)
    path = tmp_path / "0.parquet"
    rows = [(f"key{n}".encode(), b'{"x":%d,"y":0.5}' % (n * n)) for n in range(200)]
    write_table(path, entries, lambda: rows, {})
    data = path.read_bytes()
    for at in range(4, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            found = list(read_table(path, entries))
        except UsageError as error:
            assert "0.parquet" in str(error)
        else:  # in what describes the file, not in what it holds
            assert [(key, value) for key, value, _ in found] == rows


@pytest.mark.parametrize(
    "times,message",
    [
        (pyarrow.array(["x"]), "its column time is string"),
        (pyarrow.array([1.5]), "its column time is double"),
        (pyarrow.array([-5]), "before 1970"),
    ],
    ids=["text", "fraction", "negative"],
)
def test_times_that_can_be_none(tmp_path: Path, times: Any, message: str) -> None:
    fields = [("key", pyarrow.int64()), ("value", pyarrow.int64())]
    columns = [*(pyarrow.field(*one) for one in fields), pyarrow.field("time", times.type, metadata={FORM: WALL})]
    table = pyarrow.table([pyarrow.array([1]), pyarrow.array([1]), times], schema=pyarrow.schema(columns))
    pyarrow.parquet.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(UsageError, match=message):
        list(read_table(tmp_path / "0.parquet", spec(int, int)))


def test_times_of_another_unit(tmp_path: Path) -> None:
    times = pyarrow.array([1_700_000_000_123_456_789], type=pyarrow.timestamp("ns", "UTC"))
    fields = [("key", pyarrow.int64()), ("value", pyarrow.int64())]
    columns = [*(pyarrow.field(*one) for one in fields), pyarrow.field("time", times.type, metadata={FORM: WALL})]
    table = pyarrow.table([pyarrow.array([1]), pyarrow.array([7]), times], schema=pyarrow.schema(columns))
    pyarrow.parquet.write_table(table, tmp_path / "0.parquet")
    ((_, value, _),) = read_table(tmp_path / "0.parquet", spec(int, int))
    assert value == packed(1_700_000_000_123) + b"7"


@dataclass
class WithDefault:
    a: int
    b: list[int] = field(default_factory=list)


def test_a_type_that_gained_a_field_reads_old_files(tmp_path: Path) -> None:
    @dataclass
    class Old:
        a: int

    path = written(tmp_path, spec(str, Old), {"k": Old(1)})
    ((_, value, _),) = read_table(path, spec(str, WithDefault))
    assert schema(WithDefault, "value").codec.decode(value) == WithDefault(1)


@pytest.mark.parametrize("form", [WALL, EVENT])
def test_times_of_entries_with_a_ttl_are_a_column(tmp_path: Path, form: str) -> None:
    store = spec(str, int)
    entries = {b"a": packed(1_700_000_000_123) + b"5", b"b": packed(NEVER) + b"6"}
    path = tmp_path / "table.parquet"
    assert write_table(path, store, entries.items, {}, form) == 2
    assert list(read_table(path, store)) == [(key, raw, headers_of(form)) for key, raw in entries.items()]
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [(row["value"], row["time"] and row["time"].timestamp()) for row in rows] == [
        (5, 1_700_000_000.123),
        (6, None),
    ]


def test_a_column_called_time_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = foreign(tmp_path, key=["a"], value=[1], time=["noon"])
    assert list(read_table(path, spec(str, int))) == [(b"a", b"1", None)]
