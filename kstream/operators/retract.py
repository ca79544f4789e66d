"""group_by on a table: what each change takes from a group, and what it gives to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstream.codecs import Codec, copier
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_KEY, Dropping, Lines
from kstream.operators.stateless import apply

Pair = list[Any]
"""The row before and the row after; None where there is none."""


class Retract(Dropping):
    """Takes pairs of live rows. A row whose group is None is in none: it is counted in `dropped` and logged. A change
    within a group is one record, as in Kafka Streams since KIP-904, so that no reader sees the group between the two
    halves of it."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        views: Sequence[Callable[[Any], Any]],
        rows: Codec[Any],
        key_codec: Codec[Any],
        value_codec: Codec[Any],
        lines: Lines,
    ) -> None:
        super().__init__(lines)
        self._ungrouped = 0  # rows of this batch
        self._function, self._views, self._copy = function, views, copier(rows)
        self.key_codec, self.value_codec = key_codec, value_codec

    def push(self, batch: Batch) -> None:
        def groups(pair: Pair) -> list[tuple[Any, Pair]]:
            return self._groups(*map(self._seen, pair))

        self._ungrouped = 0
        batch, made = apply(groups, None, batch, of=self._function)
        self._left_out(NO_KEY, self._ungrouped)
        rows = [row for rows in made for row in rows]
        spread = batch.repeat(list(map(len, made)), [pair for _, pair in rows], self.value_codec)
        self.emit(spread.with_keys([group for group, _ in rows], self.key_codec))

    def _seen(self, row: Any) -> Any:
        """A copy: state must not change by what functions do to it."""
        seen = None if row is None else self._copy(row)
        for view in self._views:
            seen = None if seen is None else view(seen)
        return seen

    def _groups(self, old: Any, new: Any) -> list[tuple[Any, Pair]]:
        before = None if old is None else self._function(old)
        after = None if new is None else self._function(new)
        if new is not None and after is None:
            self._ungrouped += 1
        if before is not None and before == after:
            return [(before, [old, new])]
        pairs = [(before, [old, None]), (after, [None, new])]
        return [(group, pair) for group, pair in pairs if group is not None]
