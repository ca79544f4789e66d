"""A stream joined with a table that has a history: each record finds the row that was valid at its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstream.codecs import Codec
from kstream.errors import EntryUnreadable
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.closing import task_times
from kstream.operators.dropping import LATE, Lines
from kstream.operators.joins.finding import FindingJoin
from kstream.state.store import Store
from kstream.state.versions import VersionStore
from kstream.state.watermark import Watermark


class AsOfJoin(FindingJoin):
    """A record that comes more than `history` (ms) after its time, by that of the task, is late:
    what was valid then is not known any more, and it finds nothing.

    Args:
        table: has the rows that are valid now: names, and the types of keys and values.
        views: applied to each row, one after the other; None: the row is not there.
    """

    def __init__(
        self,
        table: Store[Any],
        versions: VersionStore,
        history: int,
        views: Sequence[Callable[[Any], Any]],
        joiner: Callable[..., Any],
        cursor: Cursor | None,
        value_codec: Codec[Any],
        lines: Lines,
        watermark: Watermark,
        *,
        left: bool,
    ) -> None:
        super().__init__(table.key_codec, joiner, cursor, value_codec, lines, left=left)
        self._table, self._versions, self._history, self._views = table, versions, history, views
        self._watermark = watermark

    def _find(self, batch: Batch) -> tuple[Batch, list[Any]]:
        found, late = self._found(batch)
        if not self._left:
            self._left_out(LATE, late)
        return batch, found

    def _found(self, batch: Batch) -> tuple[list[Any], int]:
        """The row of each record, None where there is none, and how many are late. Each has its own."""
        history, late = self._history, 0
        keys = batch.encoded_keys(self._key_codec)
        asked: list[tuple[bytes, int] | None] = []
        for key, at, now in zip(keys, batch.timestamps, task_times(batch, self._watermark.now), strict=True):
            if at < now - history:
                late += 1
                asked.append(None)
            else:
                asked.append(None if key is None else (key, at))
        self._versions.load_heads(keys)
        valid = self._versions.as_of(asked)
        decode, found = self._table.value_codec.decode, list[Any]()
        raw: bytes | None = None
        try:
            for raw in valid:
                found.append(None if raw is None else decode(raw))
        except Exception as error:
            batch.blame(len(found))
            raise EntryUnreadable(
                f"a version of {self._table.entry(keys[len(found)] or b'')} cannot be read as "
                f"{self._table.spec.value}: {error}; it was stored by another version of the type: give new fields a "
                "default, or let the type take the old form too"
            ) from error
        for view in self._views:
            found = [None if row is None else view(row) for row in found]
        return found, late
