"""What a processor of the user's looks like to its operator, how it is opened and closed, and its context."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from kstream.errors import ProcessorFailed, StateError, TransactionError, text_of
from kstream.operators.base import Cursor
from kstream.operators.raised import fair
from kstream.specs.timers import Due, Timer, TimerClock

log = logging.getLogger(__name__)

PASSES: Final = (TransactionError, StateError, KeyboardInterrupt)
"""What is not the failure of a user's function."""


class UserProcessor(Protocol):
    """What is called of it."""

    def open(self, ctx: Any, /) -> None: ...
    def process(self, value: Any, ctx: Any, /) -> object: ...  # None, else it is refused
    def on_timer(self, timer: Timer, ctx: Any, /) -> None: ...
    def close(self) -> None: ...


class Timers(Protocol):
    """What sets the timers that a context is asked for."""

    def set_timer(self, name: str, clock: TimerClock | None, at: int | None, after: int) -> None: ...
    def cancel_timer(self, name: str) -> None: ...
    def timer_of(self, name: str) -> Due | None: ...


class ProcessorCursor(Cursor, Protocol):
    """The context of a processor, or of an agent with timers.

    Attributes:
        raw_key: the key at hand, encoded; None: there is none.
        row: the record that made the timer at hand due, where that is known.
        processor: what does as the context is asked to.
    """

    raw_key: bytes | None
    row: int | None
    processor: Any


def opened(make: Callable[[], UserProcessor], ctx: ProcessorCursor, name: str) -> UserProcessor:
    """Makes the user's processor and opens it. Raises ProcessorFailed where that fails."""
    try:
        user = make()
        user.open(ctx)
    except BaseException as raised:
        if isinstance(error := fair(raised), PASSES):
            raise
        text = f"open of processor {name!r} failed: {type(error).__name__}: {text_of(error)}"
        raise ProcessorFailed(text) from error
    return user


def closed(user: UserProcessor, name: str) -> None:
    """Closes it. A failure is logged: the task leaves all the same."""
    try:
        user.close()
    except (Exception, SystemExit) as error:
        log.error("close of processor %r failed: %s: %s", name, type(error).__name__, text_of(error))
