"""The stream of events that keeps pages up to date (server-sent events).

One tick a second while somebody listens: each event is encoded once, for all. Events carry the whole of what they say,
so a client that reads slowly skips the ones it missed, and holds no more than the newest of each kind.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from kstream.observe.observed import Observed
from kstream.web.answers import failure

LOGGER = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between ticks, each with a `status` and the newest `point` of the curves."""
INSTANCES_EVERY: Final = 3
"""Ticks from one `instances` to the next: the others are announced every few seconds only."""
CLIENTS: Final = 64
"""Streams at a time; each may hold some hundred kilobytes."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would collect them
]


class Client:
    """One open stream: the newest event of each kind that it has not been sent yet."""

    def __init__(self, pending: dict[str, bytes]) -> None:
        self._pending = dict(pending)
        self._some = asyncio.Event()
        if self._pending:
            self._some.set()

    def offer(self, events: dict[str, bytes]) -> None:
        self._pending.update(events)
        self._some.set()

    async def take(self) -> bytes:
        """Waits for what is new."""
        await self._some.wait()
        self._some.clear()
        events, self._pending = self._pending, {}
        return b"".join(events.values())


class Feed:
    """Ticks while it has clients. Belongs to the event loop of the web server's thread."""

    def __init__(self, observed: Observed, interval: float = INTERVAL) -> None:
        self._observed = observed
        self._interval = interval
        self._clients: set[Client] = set()
        self._newest: dict[str, bytes] = {}
        self._ticks = 0
        self._ticking: asyncio.Task[None] | None = None
        self._streams: set[asyncio.Future[Any]] = set()
        self.closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request with events until its client or this instance goes."""
        if self.closed or len(self._clients) >= CLIENTS:
            await failure(503, f"{CLIENTS} streams of events are open, no more are served")(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "GET":
            await self._stream(receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, receive: Receive, send: Send) -> None:
        client = self._join()
        sending = asyncio.create_task(_send_all(client, send))
        gone = asyncio.create_task(_disconnected(receive))
        self._streams.add(sending)
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.discard(sending)
            self._clients.discard(client)
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    def close(self) -> None:
        """Ends all streams; later requests are refused."""
        self.closed = True
        for stream in self._streams:
            stream.cancel()
        if self._ticking is not None:
            self._ticking.cancel()

    def _join(self) -> Client:
        ticking = self._ticking is not None and not self._ticking.done()
        client = Client(self._newest if ticking else {})
        self._clients.add(client)
        if not ticking:
            self._ticking = asyncio.create_task(self._tick_while_wanted())
        return client

    async def _tick_while_wanted(self) -> None:
        self._ticks, self._newest = 0, {}
        try:
            while self._clients:
                events = self._events()
                self._newest.update(events)
                for client in self._clients:
                    client.offer(events)
                await asyncio.sleep(self._interval)
        except Exception:
            # the pages say that they lost the connection and ask again, more and more slowly
            LOGGER.exception("the status page's events failed")
            for stream in self._streams:
                stream.cancel()

    def _events(self) -> dict[str, bytes]:
        events = {"status": _event("status", self._observed.status())}
        if points := self._observed.history():
            events["point"] = _event("point", points[-1])
        if self._ticks % INSTANCES_EVERY == 0:
            events["instances"] = _event("instances", self._observed.instances())
        self._ticks += 1
        return events


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


async def _send_all(client: Client, send: Send) -> None:
    while True:
        # `send` waits while the connection takes no more: what comes meanwhile replaces what is pending
        await send({"type": "http.response.body", "body": await client.take(), "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
