"""Connections whose requests are parsed by httptools (llhttp, Node's parser in C): more requests a second than by h11.
Imported where it is installed, the extra `queries`."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kstream.web import connections
from kstream.web.connections import Limits


class QuickConnection(Limits, HttpToolsProtocol):
    """One connection. llhttp takes headers of any length, so that of one is looked at here, as far as it came before it
    was complete."""

    _head = 0  # bytes since the last request was complete

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > connections.HEADER_BYTES and not self.transport.is_closing():
            self.logger.warning("a header has more than %d bytes", connections.HEADER_BYTES)
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        self._head = float("-inf")  # type: ignore[assignment]  # its body has limits of its own
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0
