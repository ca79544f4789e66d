"""Connections whose requests are parsed by httptools (llhttp, Node's parser in C): more requests a second than by h11.
Imported where it is installed, the extra `queries`."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kstream.web import connections
from kstream.web.connections import Limits


class Gathered:
    """A transport that sends the header of an answer and its body together: a call of the system costs as much as all
    else that is done for a small answer. What was written is sent when somebody asks how much is not sent yet, or in
    the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._unsent: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(data)

    def flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))

    def get_write_buffer_size(self) -> int:
        self.flush()
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class QuickConnection(Limits, HttpToolsProtocol):
    """One connection. llhttp takes headers of any length, so that of one is looked at here, as far as it came before it
    was complete."""

    _head = 0  # bytes since the last request was complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Gathered(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > connections.HEADER_BYTES and not self.transport.is_closing():
            self.logger.warning("a request was refused: its header has more than %d bytes", connections.HEADER_BYTES)
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        self._head = float("-inf")  # type: ignore[assignment]  # its body has limits of its own
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0
