"""The event loop of a worker: async agents, what they start, and the app's lifespan run in it.

The worker's own loop is synchronous: it drains agents inside the revoke callback, where a loop that owned it could not
be entered again. So it gives the event loop its turns, and waits for Kafka no longer than the event loop has nothing to
do: until its next timer, and in slices, between which it is seen whether something came from outside (a socket, another
thread).
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import AsyncIterator, Callable

from kstream.operators.turns import run
from kstream.pool import close_pools
from kstream.runtime.task.context import Worker

Lifespan = Callable[[Worker], AsyncIterator[None]]

SLICE_SECONDS = 0.01
"""Longest wait for Kafka at a time where the event loop is used: so late at most is what comes from outside. An idle
worker then takes 1.6 % of a core of a slow machine (2.5 % with 5 ms, 0.1 % where nothing async is used)."""

SETTLE_SECONDS = 0.01
"""Longest the event loop goes on at a time, if it always has something to do."""

CANCEL_SECONDS = 5.0


class EventLoop:
    """Owns the asyncio loop, which is in `asyncio`, and the running lifespan."""

    def __init__(self) -> None:
        self._selector = _Selector()
        self.asyncio: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop(self._selector)
        self._lifespan: AsyncIterator[None] | None = None

    def begin(self, lifespan: Lifespan | None, worker: Worker) -> None:
        """Runs the lifespan up to its yield."""
        if lifespan is not None:
            self._lifespan = lifespan(worker)
            self.asyncio.run_until_complete(anext(self._lifespan))

    def settle(self) -> bool:
        """Runs what is ready, and what that makes ready, until nothing is. Returns whether there was anything."""
        return self._selector.used and self._selector.settle(self.asyncio)

    def wait(self, seconds: float) -> None:
        """Runs what is ready, and becomes ready within this time."""
        stop = self.asyncio.call_later(seconds, self.asyncio.stop)
        run(self.asyncio)
        stop.cancel()

    def patience(self, most: float) -> float:
        """How long something else may be waited for (seconds), `most` at most, after `settle`."""
        if not self._selector.used:
            return most
        return max(0.0, min(most, SLICE_SECONDS, self._selector.due - time.monotonic()))

    @property
    def has_work(self) -> bool:
        """Whether a timer is due, or something came from outside."""
        return self._selector.used and (self._selector.due <= time.monotonic() or self._selector.has_events())

    def close(self) -> None:
        """Ends the lifespan, then what still runs, the pools, then the loop; these also when the lifespan raises."""
        try:
            if self._lifespan is not None:
                lifespan, self._lifespan = self._lifespan, None
                self.asyncio.run_until_complete(anext(lifespan, None))
        finally:
            self._end()

    def _end(self) -> None:
        left = asyncio.all_tasks(self.asyncio)
        if left:
            for task in left:
                task.cancel()
            self.asyncio.run_until_complete(asyncio.wait(left, timeout=CANCEL_SECONDS))
        self.asyncio.run_until_complete(close_pools())
        self.asyncio.run_until_complete(self.asyncio.shutdown_asyncgens())
        self.asyncio.close()


class _Selector(selectors.DefaultSelector):
    """An event loop asks its selector to wait when it has nothing to do, and says for how long: that is seen here.

    Attributes:
        used: whether the event loop ever ran. One that did not has nothing to do.
        due: when it has something to do of its own (monotonic): at once after a turn that did not end in a wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = False
        self.due = math.inf
        self._stop: Callable[[], None] | None = None  # while the loop settles
        self._until = 0.0
        self._worked = False

    def settle(self, loop: asyncio.AbstractEventLoop) -> bool:
        self._stop, self._until, self._worked = loop.stop, time.monotonic() + SETTLE_SECONDS, False
        try:
            run(loop)
        finally:
            self._stop = None
        return self._worked

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.used = True
        now = time.monotonic()
        self.due = math.inf if timeout is None else now + timeout
        if self._stop is None:
            return super().select(timeout)
        found = super().select(0)
        if not found and self.due > now:  # it would wait
            self._stop()
            return found
        self._worked, self.due = True, now
        if now > self._until:
            self._stop()
        return found

    def has_events(self) -> bool:
        return bool(super().select(0))
