"""A sink into a table of PostgreSQL, by key or with the offsets in the same transaction (extra `postgres`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from kstream.errors import KStreamError, TopologyError
from kstream.specs.sink import BatchingSink, SinkRecord

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.sql import Composed

OFFSETS = "kstream_offsets"
"""The table of offsets: one row for each app, sink, topic and partition."""

_CREATE = f"""CREATE TABLE IF NOT EXISTS {OFFSETS} (
    app text, sink text, topic text, "partition" int, "offset" bigint NOT NULL,
    PRIMARY KEY (app, sink, topic, "partition"))"""

_LOCK = f"""INSERT INTO {OFFSETS} AS held VALUES (%s, %s, %s, %s, -1)
    ON CONFLICT (app, sink, topic, "partition") DO UPDATE SET "offset" = held."offset" RETURNING "offset" """
"""Makes the row or finds it, and locks it: of two workers that think a partition is theirs, one waits."""

_ADVANCE = f'UPDATE {OFFSETS} SET "offset" = %s WHERE app = %s AND sink = %s AND topic = %s AND "partition" = %s'

Mode = Literal["upsert", "exactly_once"]


class PostgresSink(BatchingSink):
    """Writes a row for each record.

    Args:
        conninfo: libpq's, such as "host=db dbname=shop connect_timeout=5". A function is called at each connect.
        table: its name, or schema and name; it must exist.
        row: the columns of a record, by name: of every record the same. None writes nothing for it.
        mode: "upsert" replaces the row of the same `key`, so a replay changes nothing in the end. "exactly_once"
            stores the last offset of each topic and partition in the transaction of the rows, in the table of OFFSETS,
            which it makes, and drops records that it has; rows are inserted, or replaced by `key` where one is given.
        key: the columns of a unique index.
        size, timeout: as those of `BatchingSink`.

    Raises:
        TopologyError: "upsert" without a key, another mode.
    """

    def __init__(
        self,
        conninfo: str | Callable[[], str],
        table: str | tuple[str, str],
        row: Callable[[SinkRecord[Any, Any]], Mapping[str, Any] | None],
        *,
        mode: Mode,
        key: Sequence[str] = (),
        size: int = 1000,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(size, timeout)
        if mode not in ("upsert", "exactly_once"):
            raise TopologyError(f"PostgresSink: mode={mode!r} is neither 'upsert' nor 'exactly_once'")
        if isinstance(key, str):
            raise TopologyError(f"PostgresSink: key={key!r} is a string: give a list of columns")
        if mode == "upsert" and not key:
            raise TopologyError("PostgresSink: mode='upsert' needs key=, the columns of a unique index")
        self._conninfo, self._row, self._key = conninfo, row, list(key)
        self._table = (table,) if isinstance(table, str) else table
        self.needs_offsets = mode == "exactly_once"
        self._connection: Connection[Any] | None = None

    def open(self) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise KStreamError(f"PostgresSink needs psycopg (pip install 'kstream[postgres]'): {error}") from error
        conninfo = self._conninfo if isinstance(self._conninfo, str) else self._conninfo()
        self._connection = psycopg.connect(conninfo, autocommit=True)
        if self.needs_offsets:
            with self._connection.transaction():  # two that make a table at once hinder each other
                self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (OFFSETS,))
                self._connection.execute(_CREATE)

    def write(self, batch: Sequence[SinkRecord[Any, Any]]) -> None:
        if self._connection is None or self._connection.closed:  # it was lost, and the records come again
            self.open()
        assert self._connection is not None
        with self._connection.transaction(), self._connection.cursor() as cursor:
            if not self.needs_offsets:
                self._insert(cursor, batch)
                return
            last = {(record.topic, record.partition): record.offset or 0 for record in batch}
            stored = {place: self._lock(cursor, *place) for place in sorted(last)}  # in one order: none waits for ever
            new = [record for record in batch if (record.offset or 0) > stored[record.topic, record.partition]]
            self._insert(cursor, new)
            for place, offset in last.items():
                if offset > stored[place]:
                    cursor.execute(_ADVANCE, (offset, self.app, self.name, *place))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lock(self, cursor: Cursor[Any], topic: str | None, partition: int | None) -> int:
        """The offset that is stored; its row is this transaction's until it ends."""
        stored = cursor.execute(_LOCK, (self.app, self.name, topic, partition)).fetchone()
        assert stored is not None
        return int(stored[0])

    def _insert(self, cursor: Cursor[Any], batch: Sequence[SinkRecord[Any, Any]]) -> None:
        rows = [row for record in batch if (row := self._row(record)) is not None]
        if rows:
            columns = list(rows[0])
            cursor.executemany(self._statement(columns), [[row[column] for column in columns] for row in rows])

    def _statement(self, columns: Sequence[str]) -> Composed:
        from psycopg import sql

        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        values = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(*self._table), names, values)
        if not self._key:
            return insert
        key = sql.SQL(", ").join(map(sql.Identifier, self._key))
        others = [sql.Identifier(column) for column in columns if column not in self._key]
        if not others:
            return sql.SQL("{} ON CONFLICT ({}) DO NOTHING").format(insert, key)
        changes = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(column) for column in others)
        return sql.SQL("{} ON CONFLICT ({}) DO UPDATE SET {}").format(insert, key, changes)
