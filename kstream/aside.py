"""Calls that turn an event loop, from where another one runs already (pytest-asyncio, a notebook)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


class Aside:
    """Makes calls on this thread. Where an event loop runs on it they are made, from then on, on a thread of their own,
    always the same one, and are waited for: an event loop cannot run within another. The caller's stands still
    meanwhile, so the call must not wait for anything that this is to do.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._thread: int | None = None

    def call(self, function: Callable[[], T]) -> T:
        if self._pool is None:
            if not _a_loop_runs_here():
                return function()
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "kstream")
            self._thread = self._pool.submit(threading.get_ident).result()
        if threading.get_ident() == self._thread:
            return function()
        return self._pool.submit(function).result()

    def close(self) -> None:
        """Ends the thread, if there is one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


def _a_loop_runs_here() -> bool:
    import asyncio  # takes 20 ms, and who only declares an app does without it

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
