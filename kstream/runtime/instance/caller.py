"""The program that calls `app.run()`: its signals, and its end by an error that it does not catch."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from kstream.errors import RestartsExhausted, UsageError
from kstream.escape import escaped

log = logging.getLogger(__name__)

ONE_LINE: Final = (UsageError, RestartsExhausted)


@contextmanager
def signals_to(asked: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `asked` meanwhile. Only a main thread can have that: in another one, signals do to the
    process what they did before."""
    if threading.current_thread() is not threading.main_thread():
        log.info("app.run() is not in the main thread and gets no signals: use app.supervisor() to stop it")
        yield
        return
    before = {number: signal.signal(number, lambda *_: asked()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_in_one_line() -> None:
    """An error that is one line for `kstream run` (ONE_LINE) and that nobody catches ends this program in the same way:
    that line, its exit status, no traceback.
    A program that has an excepthook of its own keeps it."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _said


def _said(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, ONE_LINE):
        sys.__excepthook__(kind, error, trace)
        return
    print("kstream:", escaped(" ".join(str(error).split())), file=sys.stderr)
    raise SystemExit(error.exit_status)
