"""`kstream state sql`: state asked in SQL with DuckDB, in this process: of a stopped instance, of the newest snapshots,
or of a savepoint."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import stores_of
from kstream.cli.operate import Subject
from kstream.cli.state.kept import Part, of_savepoint, of_snapshots
from kstream.cli.state.listing import directory_of
from kstream.cli.state.stopped import stopped
from kstream.codecs.text import decoded
from kstream.errors import UsageError
from kstream.escape import escaped
from kstream.specs.store import StoreSpec


def sql(
    on: Subject,
    query: str,
    state_dir: str | None,
    *,
    snapshots: bool,
    savepoint: str | None,
    place: str | None,
    as_json: bool,
) -> int:
    """The command.

    Args:
        snapshots: the newest ones are asked; `savepoint`: that one, in this `place`. Else the state directory.

    Raises:
        UsageError: DuckDB is not installed, the query fails, or what is asked cannot be read.
    """
    assert on.app is not None
    if snapshots and savepoint is not None:
        raise UsageError("--snapshots and --savepoint: give one of them")
    specs = stores_of(on.app.topology())
    named = [name for name in specs if name in query]
    if savepoint is not None:
        parts = of_savepoint(on, savepoint, place, named)
    elif snapshots:
        parts = of_snapshots(on, named)
    else:
        parts = _on_disk(on, state_dir, named)
    columns, rows = asked(specs, named, parts, query)
    if as_json:
        for row in rows:
            human.write_json(dict(zip(columns, map(_plain, row), strict=True)), indented=False)
        return 0
    table = human.table(*columns)
    for row in rows:
        table.add_row(*(Text(escaped("" if value is None else str(value))) for value in row))
    human.console().print(table)
    return 0


def _on_disk(on: Subject, state_dir: str | None, stores: Collection[str]) -> Iterator[Part]:
    assert on.app is not None
    otherwise = "ask its snapshots (--snapshots) or a savepoint (--savepoint NAME)"
    with stopped(directory_of(on, state_dir), on.app.name, otherwise) as found:
        for store in stores:
            for local in found.parts_of(store) if store in found.stores else ():
                yield store, local.partition, local.reader.scan(store)


def asked(
    specs: Mapping[str, StoreSpec], named: Collection[str], parts: Iterable[Part], query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What DuckDB answers: the names of the columns, and the rows.

    Args:
        named: the stores that become tables; `parts` are their entries.

    Raises:
        UsageError: DuckDB is not installed, or refuses the query.
    """
    try:
        import duckdb
    except ImportError:
        raise UsageError("kstream state sql needs DuckDB: pip install 'kstream[sql]'") from None
    with tempfile.TemporaryDirectory(prefix="kstream-sql-") as directory, duckdb.connect() as connection:
        files = {name: Path(directory) / f"{number}.json" for number, name in enumerate(named)}
        with ExitStack() as stack:
            out = {name: stack.enter_context(file.open("wb")) for name, file in files.items()}
            for store, partition, entries in parts:
                _write(out[store], specs[store], partition, entries)
        for name, file in files.items():
            try:
                _make_table(connection, specs[name], file)
            except duckdb.Error as error:
                why = " ".join(str(error).split())
                raise UsageError(f"store {name} cannot be a table: {why}") from None
        connection.execute("set enable_external_access=false")  # the query is for these tables
        try:
            answer = connection.execute(query)
            if answer is None:
                raise UsageError("there is no query")
            return [column[0] for column in answer.description or ()], answer.fetchall()
        except duckdb.Error as error:
            there = ", ".join(specs) or "none"
            why = " ".join(str(error).split())
            raise UsageError(f"the query fails: {why}; the tables are: {there} (key, value, partition)") from None


_READ: Final = "read_json(?, format='newline_delimited', sample_size=-1, maximum_object_size=268435456"


def _make_table(connection: Any, spec: StoreSpec, file: Path) -> None:
    """Types are found by DuckDB; but what is declared as text is text, also where it looks like a date. Where there is
    no such type, as for fields whose names differ by their capitals only, it is JSON."""
    import duckdb

    quoted = '"' + spec.name.replace('"', '""') + '"'
    if not file.stat().st_size:
        connection.execute(f"create table {quoted} (key varchar, value varchar, partition integer)")
        return
    try:
        found = connection.execute(f"describe select * from {_READ})", [str(file)]).fetchall()
        kinds = {name: kind for name, kind, *_ in found}
    except duckdb.NotImplementedException:
        kinds = {"key": "JSON", "value": "JSON", "partition": "INTEGER"}
    for name, side in (("key", spec.key), ("value", spec.value)):
        if side.codec.encode is str.encode:
            kinds[name] = "VARCHAR"
    columns = ", ".join(f"{name}: '{kind.replace(chr(39), chr(39) * 2)}'" for name, kind in kinds.items())
    connection.execute(f"create table {quoted} as select * from {_READ}, columns={{{columns}}})", [str(file)])


def _write(out: IO[bytes], spec: StoreSpec, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """A line of JSON each: types and nested fields are DuckDB's to find."""
    for key, value in entries:
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
