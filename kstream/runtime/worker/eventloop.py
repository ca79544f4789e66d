"""The event loop of a worker: async agents and the app's lifespan run in it, in turns that the worker gives them.

The worker's own loop is synchronous: it drains agents inside the revoke callback, where a loop that owned it could not
be entered again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kstream.operators.async_agent import turn
from kstream.runtime.task.context import Worker

Lifespan = Callable[[Worker], AsyncIterator[None]]


class EventLoop:
    """Owns the asyncio loop, which is in `asyncio`, and the running lifespan."""

    def __init__(self) -> None:
        self.asyncio = asyncio.new_event_loop()
        self._lifespan: AsyncIterator[None] | None = None

    def begin(self, lifespan: Lifespan | None, worker: Worker) -> None:
        """Runs the lifespan up to its yield."""
        if lifespan is not None:
            self._lifespan = lifespan(worker)
            self.asyncio.run_until_complete(anext(self._lifespan))

    def turn(self) -> None:
        """The lifespan's tasks go on, where there are any; nothing is waited for."""
        if self._lifespan is not None:
            turn(self.asyncio)

    def wait(self, seconds: float) -> None:
        """Runs what is ready, and becomes ready within this time."""
        self.asyncio.call_later(seconds, self.asyncio.stop)
        self.asyncio.run_forever()

    def close(self) -> None:
        """Ends the lifespan and the loop."""
        if self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            self.asyncio.run_until_complete(anext(lifespan, None))
        self.asyncio.run_until_complete(self.asyncio.shutdown_asyncgens())
        self.asyncio.close()
