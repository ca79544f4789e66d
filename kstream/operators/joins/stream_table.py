"""A stream joined with a table: each record finds what the table has of its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstream.codecs import Codec
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import Lines
from kstream.operators.joins.finding import FindingJoin
from kstream.operators.joins.lookup import Lookup


class StreamTableJoin(FindingJoin):
    """See the module's text."""

    def __init__(
        self,
        lookup: Lookup,
        joiner: Callable[..., Any],
        cursor: Cursor | None,
        value_codec: Codec[Any],
        lines: Lines,
        *,
        left: bool,
    ) -> None:
        super().__init__(lookup.store.key_codec, joiner, cursor, value_codec, lines, left=left)
        self._lookup = lookup

    def _find(self, batch: Batch) -> tuple[Batch, list[Any]]:
        return batch, self._lookup(batch.encoded_keys(self._key_codec))
