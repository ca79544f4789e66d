"""A small HTTP client on an event loop, for instances that ask each other and for `app.query()`.

It signs what it asks (signing.py), keeps a few connections open, follows no redirects and takes no more than it has to.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from kstream.errors import StateUnavailable
from kstream.web.signing import sign

IDLE: Final = 16
"""Open connections that are kept for each address."""
MOST_BYTES: Final = 64 << 20
"""Of an answer."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Asking:
    """Belongs to one event loop.

    Args:
        key: what requests are signed with (signing.key_of).
        tls: what https is made with; None: the system's authorities.
    """

    def __init__(self, key: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._key, self._tls = key, tls
        self._idle: dict[str, list[_Connection]] = {}

    async def ask(
        self, url: str, target: str, body: bytes | None = None, *, seconds: float, headers: dict[str, str] | None = None
    ) -> Response:
        """A GET, or a POST of JSON where there is a body.

        Args:
            url: scheme, host and port; `target` is path and query.

        Raises:
            StateUnavailable: there is no answer in time.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(url.rstrip("/"), target, body, headers or {})
        except TimeoutError:
            raise StateUnavailable(f"{url} did not answer within {seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:  # of an authority that is not known, or of another host, or old
            raise StateUnavailable(
                f"{url} has a certificate that is not trusted: set web_tls_ca ({error.verify_message})"
            ) from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise StateUnavailable(f"{url} cannot be asked: {str(error) or type(error).__name__}") from None

    async def _ask(self, url: str, target: str, body: bytes | None, more: dict[str, str]) -> Response:
        at = urlsplit(url)
        if at.scheme not in ("http", "https") or not at.hostname:
            raise ValueError("it is no URL of an instance")
        method, target, host = "GET" if body is None else "POST", at.path + target, at.netloc.rpartition("@")[2]
        headers = {"host": host, "authorization": sign(self._key, method, host, target, body or b""), **more}
        if body is not None:
            headers |= {"content-length": str(len(body)), "content-type": "application/json"}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        request = "\r\n".join(lines).encode("latin-1") + (body or b"")
        while True:
            kept = self._idle.get(url)
            used = bool(kept)
            connection = kept.pop() if kept else await self._connect(at.scheme, at.hostname, at.port)
            try:
                connection[1].write(request)
                answer, keep = await _read(connection[0])
            except (OSError, EOFError):
                connection[1].close()
                if used:  # it was closed while nobody looked at it
                    continue
                raise
            except BaseException:
                connection[1].close()
                raise
            if keep and len(self._idle.setdefault(url, [])) < IDLE:
                self._idle[url].append(connection)
            else:
                connection[1].close()
            return answer

    async def _connect(self, scheme: str, host: str, port: int | None) -> _Connection:
        if scheme == "http":
            return await asyncio.open_connection(host, port or 80)
        if self._tls is None:  # once: it reads some hundred certificates, and the loop waits
            self._tls = ssl.create_default_context()
        return await asyncio.open_connection(host, port or 443, ssl=self._tls, server_hostname=host)

    def close(self) -> None:
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()


async def _read(reader: asyncio.StreamReader) -> tuple[Response, bool]:
    """An answer, and whether its connection may be used again. Instances tell the length of what they answer, unless a
    proxy between cuts it into chunks."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    protocol, status = head[0].split(" ")[:2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _chunks(reader)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        if length > MOST_BYTES:
            raise ValueError(f"its answer has {length:,} bytes")
        body = await reader.readexactly(length)
    else:
        body = await reader.read(MOST_BYTES)
        return Response(int(status), headers, body), False
    return Response(int(status), headers, body), protocol == "HTTP/1.1" and headers.get("connection") != "close"


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while length := int((await reader.readline()).partition(b";")[0], 16):
        if len(body) + length > MOST_BYTES:
            raise ValueError("its answer is too long")
        body += await reader.readexactly(length)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return bytes(body)
