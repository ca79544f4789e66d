"""What one connection may cost: how many there are at a time, and how long each may take over a request.

Whoever reaches the port may open connections, without a token. Each takes a file descriptor of the process that the
workers hang on, so there is a limit. When it is reached, the connection that has waited longest without a request makes
room: a probe is served even while somebody opens connections and says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from kstream.observe.throttle import Throttle

log = logging.getLogger(__name__)
log.addFilter(Throttle())
logging.getLogger("uvicorn.error").addFilter(Throttle())  # it has a line for each request that is no HTTP

CONNECTIONS: Final = 128
"""Connections at a time; 64 of them may be streams of events."""
ACCEPTED_AT_ONCE: Final = 16
"""Connections taken in one turn of the loop: so many more may be open for a moment."""
HEADER_SECONDS: Final = 10.0
"""Time from the connection, or from the last answer, to a complete header."""
REQUEST_SECONDS: Final = 30.0
"""Time from the header until the answer has been taken."""
HEADER_BYTES: Final = 16 * 1024
ENDLESS: Final = "/api/events"
"""The one answer that has no end. It needs the token, and has a limit of its own."""


class Limits(asyncio.Protocol):
    """What the connections of both parsers add to uvicorn's.

    Attributes: those of uvicorn's two protocols.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    cycle: Any
    scope: Any

    _timer: asyncio.TimerHandle | None = None
    _answering: object = None  # the request that is answered
    _idle_since: float | None = None  # when it began to wait for a request, by the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_cycle() and self.cycle is not self._answering:
            self._expect_end()

    def on_response_complete(self) -> None:
        # the last of the answer may still be on its way to a slow client
        self._expect_header(REQUEST_SECONDS if self.transport.get_write_buffer_size() else HEADER_SECONDS)
        super().on_response_complete()  # type: ignore[misc]  # uvicorn's, which may begin with the next request
        if self._in_cycle():
            self._expect_end()

    def _in_cycle(self) -> bool:
        """Whether a request is answered now."""
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_header(self, within: float | None = None) -> None:
        self._answering, self._idle_since = None, self.loop.time()
        self._start_timer(HEADER_SECONDS if within is None else within)

    def _expect_end(self) -> None:
        self._answering, self._idle_since = self.cycle, None
        if self.scope["path"] == ENDLESS and self.scope["method"] == "GET":
            self._stop_timer()
        else:
            self._start_timer(REQUEST_SECONDS)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        if self in self.connections:
            self._timer = self.loop.call_later(seconds, self._cut)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self.transport.abort()  # `close` would wait for a client that does not read
        self.connections.discard(self)

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, Limits) and one._idle_since is not None]
        oldest = min((one for one in idle if one is not self), key=lambda one: one._idle_since or 0.0, default=self)
        log.warning("%d connections to the web server are open: one without a request is closed", CONNECTIONS)
        oldest._cut()


class Connection(Limits, H11Protocol):
    """One connection, parsed by h11: in pure Python everywhere, and fast enough for one page and one scraper."""


def connection() -> type[Limits]:
    """What parses requests: llhttp, in C, where httptools is installed (the extra `queries`), else h11."""
    try:
        from kstream.web.quick import QuickConnection
    except ImportError:
        return Connection
    return QuickConnection


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For the loop that accepts connections: where none can be accepted, asyncio says so again and again, with a
    traceback each. Anything else is reported as usual."""
    error = context.get("exception")
    if isinstance(error, OSError) and "accept" in context.get("message", ""):
        log.error("connections to the web server cannot be accepted: %s", error.strerror)
    else:
        loop.default_exception_handler(context)
