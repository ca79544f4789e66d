"""Operators that leave records out, for want of a key or a value, or because they are late: they count and tell."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

from kstream.codecs import Codec, ColumnError, holds_none
from kstream.observe.throttle import Tally
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.specs.record import EPOCH_IS_NOW

log = logging.getLogger(__name__)

NO_KEY: Final = "no key"
NO_VALUE: Final = "no value"
LATE: Final = "late"
DUPLICATE: Final = "duplicate"
LEFT_OUT: Final = {
    NO_KEY: "without a key", NO_VALUE: "without a value", LATE: "that came too late", DUPLICATE: "",
}  # fmt: skip
"""Why records are left out, and how log lines say it. There are none about what is meant to be left out."""


class Lines:
    """The log lines about records that a step leaves out: all tasks of a worker share them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tallies = {reason: Tally() for reason, said in LEFT_OUT.items() if said}

    def left_out(self, reason: str, count: int) -> None:
        if reason in self._tallies:
            self._log(reason, self._tallies[reason].due(count))

    def catch_up(self, *, last: bool = False) -> None:
        """Logs what it is time for; the `last` time all that is left."""
        for reason, tally in self._tallies.items():
            self._log(reason, tally.rest() if last else tally.due())

    def _log(self, reason: str, count: int) -> None:
        if count:
            log.warning("%d record%s %s left out of %s", count, "s" * (count > 1), LEFT_OUT[reason], self._name)


def refuse_epoch(batch: Batch, index: int, name: str) -> NoReturn:
    """A result that is told later would have the time 0, with which it cannot be written. Its record is at fault, and
    at hand now: when the result is told no record is.

    Raises:
        ColumnError: always.
    """
    batch.blame(index)
    raise ColumnError(f"{name}: {EPOCH_IS_NOW}", index)


class Dropping(Operator):
    """Counts in `dropped`, by reason, and logs: once it is committed, for what is taken back is processed again."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self._leaving: Counter[str] = Counter()  # since the last commit
        self._left_before: Counter[str] = Counter()  # of these, at the last `keep`

    def _without(self, batch: Batch, column: Sequence[Any], reason: str) -> Batch:
        """The records that have something in this column of theirs."""
        kept = batch.where([item is not None for item in column])
        self._left_out(reason, batch.size - kept.size)
        return kept

    def _keyed(self, batch: Batch, key_codec: Codec[Any]) -> tuple[Batch, list[bytes | None]]:
        """The records that have a key, and their keys, encoded."""
        keys = batch.encoded_keys(key_codec)
        if None in keys:
            batch = self._without(batch, keys, NO_KEY)
            keys = batch.encoded_keys(key_codec)
        return batch, keys

    def _sound(self, batch: Batch, key_codec: Codec[Any]) -> tuple[Batch, list[bytes | None]]:
        """The records that have a key and a value, and their keys, encoded."""
        batch, keys = self._keyed(batch, key_codec)
        if holds_none(batch.value_codec) and None in batch.values:
            batch = self._without(batch, batch.values, NO_VALUE)
            keys = batch.encoded_keys(key_codec)
        return batch, keys

    def _without_failed(self, batch: Batch, values: Iterator[Any], take: Callable[[], None]) -> list[int]:
        """Takes the rest of the values, of which one that fails leaves nothing behind, until they are through.

        Args:
            values: over the batch's column.
            take: goes on where it was.

        Returns:
            The indices of those that failed and were left out.

        Raises:
            What failed, where it may not be left out.
        """
        failed: list[int] = []
        while True:
            try:
                take()
                return failed
            except BaseException as error:
                index = batch.blame_last(values)
                if not (self.leaves_out and batch.leaves_out(index, error)):
                    raise
                failed.append(index)

    def _left_out(self, reason: str, count: int) -> None:
        if count:
            self._leaving[reason] += count

    def keep(self) -> None:
        super().keep()
        self._left_before = self._leaving.copy()

    def take_back(self) -> bool:
        self._leaving = self._left_before.copy()
        return super().take_back()

    def committed(self) -> None:
        for reason, count in self._leaving.items():
            self.dropped[reason] += count
            self._lines.left_out(reason, count)
        self._forget_leaving()
        if self.dropped:
            self._lines.catch_up()

    def reset(self) -> None:
        self._forget_leaving()

    def _forget_leaving(self) -> None:
        if self._leaving:
            self._leaving, self._left_before = Counter(), Counter()

    def close(self) -> None:
        self._lines.catch_up(last=True)
