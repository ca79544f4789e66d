"""Timers that fire: what is done for them has no input record behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kstream.errors import TimerFailed
from kstream.operators.bounds import NONE
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE, Teller
from kstream.operators.writer import AFTER_ALL
from kstream.state.timers import Fired
from kstream.types import Headers


class TimersOrigin(Origin):
    """What on_timer of a processor, or of an agent (`of`), is given: timers have no topic, no headers and no offset.

    Args:
        name: of that.
        fired: the timers, the one at hand the last of them.
        rows: the record of `moved` that each has its place at; nothing where that is None.
    """

    __slots__ = ("fired", "moved", "name", "of", "rows", "teller")
    of_time = timeless = True

    def __init__(
        self, of: str, name: str, teller: Teller, fired: list[Fired], moved: Origin | None, rows: list[int]
    ) -> None:
        self.of, self.name, self.teller = of, name, teller
        self.fired, self.moved, self.rows = fired, moved, rows
        self.topic, self.bounds, self.event_time = "", NONE, True
        self.at_fault, self.singly, self.leave_out = None, False, None
        self.places, self.times, self.watermarks = None, [], []
        self._timestamps, self._headers, self._offsets = None, _NO_HEADERS, _NO_OFFSETS

    def places_of(self, rows: Sequence[int]) -> Sequence[int]:
        if self.moved is None:
            return [AFTER_ALL] * len(rows)
        return self.moved.places_of([self.rows[row] for row in rows])

    def blamed(self, row: int, error: BaseException) -> TimerFailed:
        """The failure of the timer at this place."""
        one = self.fired[row]
        return TimerFailed(
            self.of, self.name, self.teller.shown(one.key), one.timer.name, one.timer.at, one.entry, error
        )


_NO_HEADERS: Final[list[Headers | None]] = [None] * (AT_ONCE + 1)
_NO_OFFSETS: Final = [-1] * (AT_ONCE + 1)
