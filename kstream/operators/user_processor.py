"""What a processor of the user's looks like to its operator, and the context that it is given."""

from __future__ import annotations

from typing import Any, Protocol

from kstream.operators.base import Cursor
from kstream.specs.timers import Timer


class UserProcessor(Protocol):
    """What is called of it."""

    def open(self, ctx: Any, /) -> None: ...
    def process(self, value: Any, ctx: Any, /) -> object: ...  # None, else it is refused
    def on_timer(self, timer: Timer, ctx: Any, /) -> None: ...
    def close(self) -> None: ...


class ProcessorCursor(Cursor, Protocol):
    """The context of a processor.

    Attributes:
        raw_key: the key at hand, encoded; None: there is none.
        row: the record that made the timer at hand due, where that is known.
        processor: what does as the context is asked to.
    """

    raw_key: bytes | None
    row: int | None
    processor: Any
