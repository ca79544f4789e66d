"""`kstream state sql`: the state of a stopped instance, asked in SQL with DuckDB, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import stores_of
from kstream.cli.operate import Subject
from kstream.cli.state.listing import directory_of
from kstream.cli.state.stopped import stopped
from kstream.codecs.text import decoded
from kstream.errors import UsageError
from kstream.escape import escaped
from kstream.specs.store import StoreSpec

Entries = Iterable[tuple[bytes, bytes, int]]
"""Key, value and partition."""


def sql(on: Subject, query: str, state_dir: str | None, *, as_json: bool) -> int:
    """The command.

    Raises:
        UsageError: DuckDB is not installed, the query fails, or the directory cannot be read.
    """
    assert on.app is not None
    specs = stores_of(on.app.topology())
    with stopped(directory_of(on, state_dir), on.app.name) as found:
        tables = {name: (spec, _entries(found, name)) for name, spec in specs.items() if name in found.stores}
        columns, rows = asked(tables, query)
    if as_json:
        for row in rows:
            human.write_json(dict(zip(columns, map(_plain, row), strict=True)), indented=False)
        return 0
    table = human.table(*columns)
    for row in rows:
        table.add_row(*(Text(escaped("" if value is None else str(value))) for value in row))
    human.console().print(table)
    return 0


def _entries(found: Any, store: str) -> Iterator[tuple[bytes, bytes, int]]:
    for local in found.parts_of(store):
        for key, value in local.reader.scan(store):
            yield key, value, local.partition


def asked(tables: Mapping[str, tuple[StoreSpec, Entries]], query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What DuckDB answers: the names of the columns, and the rows.

    Args:
        tables: the entries of each store; only those that the query names are read.

    Raises:
        UsageError: DuckDB is not installed, or refuses the query.
    """
    try:
        import duckdb
    except ImportError:
        raise UsageError("kstream state sql needs DuckDB: pip install 'kstream[sql]'") from None
    with tempfile.TemporaryDirectory(prefix="kstream-sql-") as directory, duckdb.connect() as connection:
        for number, (name, (spec, entries)) in enumerate(tables.items()):
            if name not in query:
                continue
            file = Path(directory) / f"{number}.json"
            _write(file, spec, entries)
            quoted = '"' + name.replace('"', '""') + '"'
            empty = f"create table {quoted} (key varchar, value varchar, partition integer)"
            read = (
                "select * from read_json(?, format='newline_delimited', sample_size=-1, maximum_object_size=268435456)"
            )
            if file.stat().st_size:
                connection.execute(f"create table {quoted} as {read}", [str(file)])
            else:
                connection.execute(empty)
        connection.execute("set enable_external_access=false")  # the query is for these tables
        try:
            answer = connection.execute(query)
            return [column[0] for column in answer.description or ()], answer.fetchall()
        except duckdb.Error as error:
            there = ", ".join(tables) or "none"
            raise UsageError(f"the query fails: {error}; the tables are: {there} (key, value, partition)") from None


def _write(file: Path, spec: StoreSpec, entries: Entries) -> None:
    """A line of JSON each: types and nested fields are DuckDB's to find."""
    with file.open("wb") as out:
        for key, value, partition in entries:
            row = {
                "key": decoded(spec.key.codec, key, key=True).plain,
                "value": decoded(spec.value.codec, value).plain,
                "partition": partition,
            }
            out.write(msgspec.json.encode(row) + b"\n")


def _plain(value: Any) -> Any:
    try:
        msgspec.json.encode(value)
    except TypeError:
        return str(value)
    return value
