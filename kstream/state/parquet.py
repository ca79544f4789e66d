"""Entries of a store as a Parquet file, which anything can read and write: the columns `key` and `value`, with types.

What JSON has is a column of its types: numbers, text, lists, structs (dataclasses and the like), maps (dicts). What has
no such type, or a value that does not come back from it as it was, is a column of text: the JSON. Values of codecs of
the user's own are a column of bytes. Each column says in its metadata which of these it is (`kstream.form`: plain, json
or bytes) and what its type is called (`kstream.type`). Of a store with a TTL the column `time` says when an entry was
written or used last; none is an entry that does not expire. The only importer of pyarrow, which the extra `parquet`
brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kstream.codecs import Codec
from kstream.codecs.base import BuiltIn
from kstream.codecs.text import from_json
from kstream.errors import ConfigError, SnapshotError, UsageError
from kstream.specs.schema import Schema
from kstream.specs.store import StoreSpec
from kstream.specs.stored import PARQUET
from kstream.state.forms import EVENT, NEVER, PLAIN, WALL, clock_of, headers_of, newest_in, packed, plain_in
from kstream.types import Headers

if TYPE_CHECKING:
    import pyarrow

ROWS: Final = 20_000
"""Rows of a group."""
FORM: Final = b"kstream.form"
TYPE: Final = b"kstream.type"
NUMBER: Final = "kstream.v"


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet files need pyarrow: pip install 'kstream[parquet]'") from error
    return pyarrow


def check_installed() -> None:
    """Raises ConfigError where pyarrow is not installed."""
    _arrow()


class _NoType(Exception):
    """Arrow has no type for it."""


@dataclass(frozen=True)
class Column:
    """How one side of the entries is written.

    Attributes:
        form: plain, json or bytes.
        kind: Arrow's type.
        to_arrow: from the bytes of an entry; to_bytes: back, from what Arrow gives.
    """

    form: str
    kind: pyarrow.DataType
    to_arrow: Callable[[bytes], Any]
    to_bytes: Callable[[Any], bytes | None]


def columns_of(side: Schema, what: str) -> list[Column]:
    """The ways to write it, the best one first; the last one always works."""
    arrow, codec = _arrow(), side.codec
    as_bytes = Column("bytes", arrow.binary(), bytes, bytes)
    if codec.encode is bytes.__bytes__ or not isinstance(codec, BuiltIn):
        return [as_bytes]
    if codec.encode is str.encode:
        return [Column("plain", arrow.string(), bytes.decode, str.encode), as_bytes]
    if not codec.json:
        return [as_bytes]
    ways = [Column("json", arrow.string(), bytes.decode, lambda text: from_json(codec, text.encode(), what)), as_bytes]
    try:
        kind, restore = _typed(arrow, msgspec.inspect.type_info(side.kind))
    except (_NoType, TypeError, NameError, RecursionError):  # the last: a class that has itself inside
        return ways
    plain = Column("plain", kind, msgspec.json.decode, lambda value: _from_plain(codec, restore(value), what))
    return [plain, *ways]


def _from_plain(codec: Codec[Any], plain: Any, what: str) -> bytes | None:
    return from_json(codec, msgspec.json.encode(plain), what)


Restore = Callable[[Any], Any]


def _typed(arrow: Any, info: Any) -> tuple[Any, Restore]:
    """Arrow's type for the JSON of a type, and how to make that JSON's plain objects of what Arrow gives back."""
    i = msgspec.inspect
    if isinstance(info, i.Metadata):
        return _typed(arrow, info.type)
    if isinstance(info, i.UnionType):
        rest = [one for one in info.types if not isinstance(one, i.NoneType)]
        if len(rest) != 1:
            raise _NoType
        kind, restore = _typed(arrow, rest[0])
        return kind, lambda value: None if value is None else restore(value)
    for classes, kind in (
        (i.BoolType, arrow.bool_()),
        (i.IntType, arrow.int64()),
        (i.FloatType, arrow.float64()),
        ((i.StrType, i.DateTimeType, i.DateType, i.TimeType, i.TimeDeltaType, i.UUIDType), arrow.string()),
    ):
        if isinstance(info, classes):
            return kind, _same
    if isinstance(info, i.ListType | i.SetType | i.FrozenSetType | i.VarTupleType):
        kind, restore = _typed(arrow, info.item_type)
        return arrow.list_(kind), lambda value: [restore(one) for one in value]
    if isinstance(info, i.DictType) and isinstance(info.key_type, i.StrType):
        kind, restore = _typed(arrow, info.value_type)
        return arrow.map_(arrow.string(), kind), lambda value: {key: restore(one) for key, one in value}
    array_like = getattr(info, "array_like", False) or getattr(info, "tag_field", None) is not None
    if isinstance(info, i.StructType | i.DataclassType | i.TypedDictType) and not array_like and info.fields:
        parts = {one.encode_name: _typed(arrow, one.type) for one in info.fields}
        kind = arrow.struct([(name, kind) for name, (kind, _) in parts.items()])
        return kind, lambda value: {name: parts[name][1](one) for name, one in value.items() if name in parts}
    raise _NoType


def _same(value: Any) -> Any:
    return value


def write_table(
    path: Path,
    spec: StoreSpec,
    entries: Callable[[], Iterable[tuple[bytes, bytes]]],
    about: dict[str, str],
    form: str = PLAIN,
) -> int:
    """Writes the entries of a store, and returns how many there are.

    Args:
        entries: gives them, anew each time: where a column's type does not hold all of its values, another is taken.
        about: kept in the file's metadata.
        form: of the entries (state/forms.py).

    Raises:
        ConfigError: pyarrow is not installed.
    """
    keys, values = columns_of(spec.key, f"a key of {spec.name}"), columns_of(spec.value, f"a value of {spec.name}")
    while True:
        try:
            return _write(path, spec, keys[0], values[0], entries(), about, form)
        except _Unfit as unfit:
            (keys if unfit.side == "key" else values).pop(0)


class _Unfit(Exception):
    """A column does not give back what was written."""

    def __init__(self, side: str) -> None:
        self.side = side


def _write(
    path: Path,
    spec: StoreSpec,
    key: Column,
    value: Column,
    entries: Iterable[tuple[bytes, bytes]],
    about: dict[str, str],
    form: str,
) -> int:
    arrow, timed = _arrow(), form != PLAIN
    fields = [
        arrow.field(name, column.kind, metadata={FORM: column.form, TYPE: str(side)})
        for name, column, side in (("key", key, spec.key), ("value", value, spec.value))
    ]
    if timed:
        fields.append(arrow.field("time", arrow.timestamp("ms", "UTC"), metadata={FORM: clock_of(form)}))
    schema = arrow.schema(fields, metadata={**about, NUMBER: str(PARQUET.number)})
    count, rows = 0, iter(entries)
    with arrow.parquet.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as out:
        while batch := list(islice(rows, ROWS)):
            data = [plain_in(form, raw) for _, raw in batch] if timed else [raw for _, raw in batch]
            arrays = [
                _array(arrow, "key", key, spec.key, [raw for raw, _ in batch]),
                _array(arrow, "value", value, spec.value, data),
            ]
            if timed:
                times = [None if (at := newest_in(form, raw)) == NEVER else at for _, raw in batch]
                arrays.append(arrow.array(times, type=arrow.int64()).cast(arrow.timestamp("ms", "UTC")))
            out.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            count += len(batch)
    return count


def _array(arrow: Any, name: str, column: Column, side: Schema, data: Sequence[bytes]) -> Any:
    """A column, of which is sure that it gives back what it was given: keys byte by byte, as aggregations have an entry
    for the bytes of a record's key, however its producer has written it; values as they are read."""
    try:
        array = arrow.array(map(column.to_arrow, data), type=column.kind, size=len(data))
        back = [column.to_bytes(one) for one in array.to_pylist()]
    except Exception as error:  # what cannot be written so, whatever says it
        if column.form == "bytes":
            raise
        raise _Unfit(name) from error
    decode = side.codec.decode
    for was, now in zip(data, back, strict=True):
        if was != now and (name == "key" or now is None or decode(was) != decode(now)):
            raise _Unfit(name)
    return array


def read_table(path: Path, spec: StoreSpec, digest: str | None = None) -> Iterator[tuple[bytes, bytes, Headers | None]]:
    """The entries of a file, whoever wrote it: its columns `key` and `value`.

    Args:
        digest: the sha256 that the file must have.

    Raises:
        SnapshotError: it is damaged. UsageError: it has no such columns, or an entry is not of the store's types.
    """
    arrow = _arrow()
    if digest is not None:
        found = sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
        if found.hexdigest() != digest:
            raise SnapshotError(f"the Parquet file of store {spec.name} is damaged: its checksum does not fit")
    with _reading(path), arrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        said = (file.schema_arrow.metadata or {}).get(NUMBER.encode(), b"1")
        if refusal := PARQUET.refusal(path.name, int(said) if said.isdigit() else 1):
            raise UsageError(refusal)
        missing = [name for name in ("key", "value") if name not in file.schema_arrow.names]
        if missing:
            raise UsageError(f"{path.name} has no column {missing[0]}: a store's entries are the columns key and value")
        sides = [
            _reader(file.schema_arrow.field(name), side, f"{path.name}: a {name} of {spec.name}")
            for name, side in (("key", spec.key), ("value", spec.value))
        ]
        form = _form_of_times(file.schema_arrow, path)
        headers = headers_of(form)
        for batch in file.iter_batches(ROWS, columns=["key", "value", *(() if headers is None else ("time",))]):
            keys, values = (batch.column(name).to_pylist() for name in ("key", "value"))
            times = [None] * len(keys) if headers is None else _times(batch.column("time"), path)
            for key, value, at in zip(keys, values, times, strict=True):
                as_key, as_value = sides[0](key), sides[1](value)
                if as_key is None or as_value is None:
                    raise UsageError(
                        f"{path.name}: an entry of {spec.name} has no {'key' if as_key is None else 'value'}"
                    )
                if headers is not None:
                    as_value = packed(NEVER if at is None else at) + as_value
                yield as_key, as_value, headers


def _form_of_times(schema: Any, path: Path) -> str:
    """Plain where the file has no times of kstream's."""
    if "time" not in schema.names:
        return PLAIN
    form = str((schema.field("time").metadata or {}).get(FORM, PLAIN.encode()).decode())
    kind = schema.field("time").type
    if form != PLAIN and not (_arrow().types.is_timestamp(kind) or _arrow().types.is_int64(kind)):
        raise UsageError(f"{path.name}: its column time is {kind}, and the times of kstream are timestamp[ms]")
    if form not in (PLAIN, WALL, EVENT):
        raise UsageError(
            f"{path.name}: its times are of the form {form!r}, which this version of kstream does not know"
        )
    return form


def _times(column: Any, path: Path) -> list[int | None]:
    arrow = _arrow()
    if not arrow.types.is_int64(column.type):
        column = column.cast(arrow.timestamp("ms", column.type.tz), safe=False).cast(arrow.int64())
    times: list[int | None] = column.to_pylist()
    if any(at is not None and at < 0 for at in times):
        raise UsageError(f"{path.name}: a time is before 1970, which no entry of kstream's was written at")
    return times


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What Arrow says of a file that is damaged, or none of its, becomes a line; it may say so late."""
    try:
        yield
    except (_arrow().ArrowException, OSError) as error:
        raise UsageError(f"{path.name} cannot be read as Parquet: {error}") from error


def partition_in(path: Path) -> int | None:
    """The partition that a file says its entries are of (`kstream.partition`); None where it does not."""
    return _number_in(path, b"kstream.partition")


def partitions_in(path: Path) -> int | None:
    """Of how many (`kstream.partitions`), likewise."""
    return _number_in(path, b"kstream.partitions")


def _number_in(path: Path, name: bytes) -> int | None:
    with _reading(path):
        said = (_arrow().parquet.read_schema(path).metadata or {}).get(name, b"").decode(errors="replace")
    return int(said) if said.isascii() and said.isdigit() else None


def _reader(field: Any, side: Schema, what: str) -> Callable[[Any], bytes | None]:
    """How a column of a file becomes bytes: as it says of itself, or by its type where somebody else wrote it."""
    arrow = _arrow()
    form = (field.metadata or {}).get(FORM, b"").decode()
    ways = {column.form: column for column in columns_of(side, what)}
    if not form:
        form = "plain" if "plain" in ways else "json"
        if arrow.types.is_binary(field.type) and "bytes" in ways and ways.get("plain") is None:
            form = "bytes"
    if form not in ways:
        raise UsageError(f"{what} is a column of form {form}, and its type {side} is written as {', '.join(ways)}")
    convert = ways[form].to_bytes

    def read(value: Any) -> bytes | None:
        if value is None and not getattr(side.codec, "nullable", False):
            return None
        try:
            return convert(value)
        except UsageError:
            raise
        except Exception as error:  # of a file that anybody wrote
            raise UsageError(f"{what} is not {side}: the column is {field.type}") from error

    return read
