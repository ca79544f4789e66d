"""One request of Kafka's protocol, enough to know that the broker is ready: it answers metadata and lists itself."""

from __future__ import annotations

import socket
import struct

_METADATA, _VERSION = 3, 2


def cluster_of(port: int, timeout: float = 2.0) -> str | None:
    """The cluster id of the broker that listens on this port of 127.0.0.1 and lists itself; None while none does.

    Asks for metadata of no topic (version 2, the oldest with a cluster id). A broker that is still fenced answers with
    an empty list of brokers.
    """
    request = struct.pack(">hhih", _METADATA, _VERSION, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            return _cluster_listing(_receive(connection, size), port)
    except (OSError, EOFError, struct.error, UnicodeDecodeError):
        return None


def _cluster_listing(answer: bytes, port: int) -> str | None:
    """correlation id, [node id, host, port, rack], cluster id, ..."""
    at = 8
    (count,) = struct.unpack_from(">i", answer, 4)
    listed = False
    for _ in range(count):
        at += 4
        _, at = _string(answer, at)
        listed |= struct.unpack_from(">i", answer, at)[0] == port
        _, at = _string(answer, at + 4)
    cluster, _ = _string(answer, at)
    return cluster if listed else None


def _string(answer: bytes, at: int) -> tuple[str | None, int]:
    (length,) = struct.unpack_from(">h", answer, at)
    if length < 0:
        return None, at + 2
    return answer[at + 2 : at + 2 + length].decode(), at + 2 + length


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)
