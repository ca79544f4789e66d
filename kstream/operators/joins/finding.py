"""A stream joined with what is found of each of its records: the part that is the same for all tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from kstream.codecs import Codec, holds_none
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_VALUE, Dropping, Lines
from kstream.operators.stateless import apply


class FindingJoin(Dropping):
    """A record without a value gives nothing.

    Args:
        joiner: takes a record's value and what was found.
        cursor: for a joiner that takes the context.
        value_codec: of results.
        left: a record that finds nothing is joined with None, and so is one without a key; otherwise they give nothing.
        by_key: without a key nothing is looked for.
    """

    def __init__(
        self,
        key_codec: Codec[Any],
        joiner: Callable[..., Any],
        cursor: Cursor | None,
        value_codec: Codec[Any],
        lines: Lines,
        *,
        left: bool,
        by_key: bool = True,
    ) -> None:
        super().__init__(lines)
        self._key_codec, self._joiner, self._cursor, self._value_codec = key_codec, joiner, cursor, value_codec
        self._left, self._by_key = left, by_key

    @abstractmethod
    def _find(self, batch: Batch) -> tuple[Batch, list[Any]]:
        """What each record finds, None where that is nothing: an object of its own. And the batch, which may have lost
        records."""

    def push(self, batch: Batch) -> None:
        if self._by_key and not self._left:
            batch, _ = self._keyed(batch, self._key_codec)
        # all of them, whether they find anything or not: one that cannot be read is never lost in silence
        values = batch.values
        if holds_none(batch.value_codec) and None in values:
            batch = self._without(batch, values, NO_VALUE)
        batch, found = self._find(batch)
        if not self._left and None in found:
            batch = batch.where([one is not None for one in found])
            found = [one for one in found if one is not None]
        if batch.size:
            self.emit(self._joined(batch, found))

    def _joined(self, batch: Batch, found: list[Any]) -> Batch:
        joiner, others = self._joiner, iter(found)

        def join(value: Any, *context: Any) -> Any:
            return joiner(value, next(others), *context)

        batch, results = apply(join, self._cursor, batch, of=joiner)
        return batch.with_values(results, self._value_codec)
