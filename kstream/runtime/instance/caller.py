"""The program that calls `app.run()`: its signals, its threads, and its end by an error that it does not catch."""

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
from kstream.interrupt import STATUS as INTERRUPTED

log = logging.getLogger(__name__)

ONE_LINE: Final = (UsageError, RestartsExhausted)

MAIN_ENDED: Final = (
    "app.run() is in a thread and the main thread has ended, after which Python begins no work in other threads: wait "
    "in the main thread for this one (thread.join()), or call app.run() there"
)

LEAVING_SECONDS: Final = 5.0
"""How long a main thread that ends may still be seen as alive."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C before the workers ran. One that comes when a program has caught this and goes on is Python's own."""


@contextmanager
def signals_to(asked: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `asked` meanwhile. Only a main thread can have that: in another one, signals do to the
    process what they did before, and the end of the main thread calls `asked`."""
    if threading.current_thread() is not threading.main_thread():
        log.info("app.run() is not in the main thread and gets no signals: use app.supervisor() to stop it")
        over = threading.Event()
        threading.Thread(target=_at_end_of_main, args=(over, asked), name="main-thread", daemon=True).start()
        try:
            yield
        finally:
            over.set()
        return
    before = {number: signal.signal(number, lambda *_: asked()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _at_end_of_main(over: threading.Event, asked: Callable[[], None]) -> None:
    threading.main_thread().join()
    if not over.is_set():
        log.warning("%s. It stops now", MAIN_ENDED)
        asked()


@contextmanager
def main_thread_needed() -> Iterator[None]:
    """Raises UsageError for what Python says when a thread begins work (an executor, at its import too) after the end
    of the main thread."""
    try:
        yield
    except RuntimeError as error:
        main = threading.main_thread()
        if threading.current_thread() is not main:
            main.join(LEAVING_SECONDS if "shutdown" in str(error) else 0.0)
            if not main.is_alive():
                raise UsageError(MAIN_ENDED) from error
        raise


def end_in_one_line() -> None:
    """An error that is one line for `kstream run` (ONE_LINE) and that nobody catches ends this program, or the thread
    that it is raised in, in the same way: that line, no traceback, and for the program its exit status. A Ctrl-C that
    came before the workers ran ends the program with 130 and without a word.
    A program that has an excepthook of its own keeps it. Where somebody types at Python's prompt it stays Python's: an
    error is no end there."""
    if sys.excepthook is sys.__excepthook__ and not hasattr(sys, "ps1"):
        sys.excepthook = _said
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _said_in_thread


def _said(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, Interrupted):
        raise SystemExit(INTERRUPTED)
    if not isinstance(error, ONE_LINE):
        sys.__excepthook__(kind, error, trace)
        return
    _say(error)
    raise SystemExit(error.exit_status)


def _said_in_thread(given: threading.ExceptHookArgs) -> None:
    if isinstance(given.exc_value, ONE_LINE):
        _say(given.exc_value)
    else:
        threading.__excepthook__(given)


def _say(error: BaseException) -> None:
    print("kstream:", escaped(" ".join(str(error).split())), file=sys.stderr)
