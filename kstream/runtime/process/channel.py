"""An instance's side of the queries to one worker process, on an event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from typing import Final, cast

import msgspec

from kstream.errors import StateUnavailable
from kstream.runtime.process.questions import Frames, Query, Result, frame

log = logging.getLogger(__name__)

WAITING: Final = 1000
"""Queries of a worker that may wait for their results."""


class Channel(asyncio.Protocol):
    """Queries that are asked in one turn of the event loop are sent together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames = Frames(Result)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.closed = False

    @classmethod
    async def over(cls, connected: socket.socket) -> Channel:
        """Takes the socket over."""
        connected.setblocking(False)
        _, channel = await asyncio.get_running_loop().create_connection(cls, sock=connected)
        return channel

    async def ask(self, query: Query, seconds: float) -> Result:
        """Gives the query its number.

        Raises:
            StateUnavailable: the worker has ended or does not answer in time, or too many wait.
        """
        if self.closed or len(self._waiting) >= WAITING:
            raise StateUnavailable(
                "its worker has ended" if self.closed else "its worker is asked for more than it has time for"
            )
        query.number = next(self._numbers)
        answer = self._waiting[query.number] = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(frame(query))
        try:
            return cast("Result", await asyncio.wait_for(answer, seconds))
        except TimeoutError:
            raise StateUnavailable(f"its worker did not answer within {seconds:g} s") from None
        finally:
            self._waiting.pop(query.number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(unsent))

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for result in self._frames.feed(data):
                answer = self._waiting.get(result.number)
                if answer is not None and not answer.done():
                    answer.set_result(result)
        except msgspec.MsgspecError as error:
            log.error("an answer of a worker cannot be decoded: %s", error)
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(StateUnavailable("its worker has ended"))
