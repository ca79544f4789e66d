"""A stream joined with a table: each record finds what the table has of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstream.codecs import Codec, holds_none
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_KEY, NO_VALUE, Dropping, Lines
from kstream.operators.joins.lookup import Lookup
from kstream.operators.stateless import apply


class StreamTableJoin(Dropping):
    """`left`: a record that finds nothing is joined with None, and so is one without a key; otherwise they give
    nothing. A record without a value gives nothing."""

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
        super().__init__(lines)
        self._lookup, self.joiner, self.cursor, self.value_codec, self._left = lookup, joiner, cursor, value_codec, left

    def push(self, batch: Batch) -> None:
        codec = self._lookup.store.key_codec
        if not self._left and None in (keys := batch.encoded_keys(codec)):
            batch = self._without(batch, keys, NO_KEY)
        # all of them, whether they find anything or not: one that cannot be read is never lost in silence
        values = batch.values
        if holds_none(batch.value_codec) and None in values:
            batch = self._without(batch, values, NO_VALUE)
        found = self._lookup(batch.encoded_keys(codec))
        if not self._left and None in found:
            batch = batch.where([one is not None for one in found])
            found = [one for one in found if one is not None]
        if batch.size:
            self.emit(self._joined(batch, found))

    def _joined(self, batch: Batch, found: Sequence[Any]) -> Batch:
        joiner, others = self.joiner, iter(found)

        def join(value: Any, *context: Any) -> Any:
            return joiner(value, next(others), *context)

        batch, results = apply(join, self.cursor, batch, of=joiner)
        return batch.with_values(results, self.value_codec)
