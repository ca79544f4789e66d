"""Operators that leave records out for want of a key or a value: they count and tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstream.operators.aggregate import Lines
from kstream.operators.base import Operator
from kstream.operators.batch import Batch


class Dropping(Operator):
    """Counts in `dropped`, by reason, and logs."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def _without(self, batch: Batch, column: Sequence[Any], reason: str) -> Batch:
        """The records that have something in this column of theirs."""
        kept = batch.where([item is not None for item in column])
        missing = batch.size - kept.size
        self.dropped[reason] += missing
        self._lines.left_out(reason, missing)
        return kept

    def flush(self) -> None:
        if self.dropped:
            self._lines.catch_up()

    def close(self) -> None:
        self._lines.catch_up(last=True)
