"""`python -m benchmarks.queries_client APP URL TOKEN SECONDS RATE CONNECTIONS KEYS`: asks for committed totals over
kept connections, so many requests a second at most (0: as many as are answered), KEYS at a time (0: through
`app.async_query()`). Prints what came of it."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.queries_service import KEYS, make_app
from kstream.config import Settings
from kstream.web.client import AsyncQuery


class Connection(asyncio.Protocol):
    """Asks and waits for the answer, again and again. It takes its processor from those that it measures: so it does no
    more than it has to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] = self._loop.create_future()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.index(b"content-length: ") + 16
        if len(body) >= int(head[at:].partition(b"\r")[0]):
            self._data = b""
            self._answer.set_result((head, body))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the instance has closed the connection"))

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        self._transport.write(request)
        answer = await self._answer
        self._answer = self._loop.create_future()
        return answer

    def close(self) -> None:
        self._answer.cancel()
        self._transport.close()


async def ask(url: str, token: str, until: float, pause: float, keys: int, took: list[float], bad: list[bytes]) -> None:
    at = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(Connection, at.hostname, at.port)
    head = f"Host: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
    due = time.monotonic() + random.random() * pause
    while (now := time.monotonic()) < until:
        if due > now:
            await asyncio.sleep(due - now)
        due += pause
        began = time.monotonic()
        if keys == 1:
            request = f"GET /state/totals/{random.randrange(KEYS)} HTTP/1.1\r\n{head}\r\n"
        else:
            body = json.dumps({"keys": [str(random.randrange(KEYS)) for _ in range(keys)]})
            more = f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
            request = f"POST /state/totals HTTP/1.1\r\n{head}{more}\r\n{body}"
        answer, said = await connection.ask(request.encode())
        took.append(time.monotonic() - began)
        if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404")):  # a key that is not counted yet is an answer too
            bad.append(said)
    connection.close()


async def through_client(app: str, url: str, token: str, until: float, tasks: int, took: list[float]) -> None:
    async def on_and_on(query: AsyncQuery) -> None:
        while (began := time.monotonic()) < until:
            await query.get("totals", str(random.randrange(KEYS)))
            took.append(time.monotonic() - began)

    async with make_app(app).async_query(urls=[url], settings=Settings(web_token=token)) as query:
        await asyncio.gather(*(on_and_on(query) for _ in range(tasks)))


async def main() -> None:
    app, url, token, seconds, rate, connections, keys = sys.argv[1:]
    took: list[float] = []
    bad: list[bytes] = []
    began = time.monotonic()
    pause = int(connections) / float(rate) if float(rate) else 0.0
    until = began + float(seconds)
    if int(keys):
        await asyncio.gather(*(ask(url, token, until, pause, int(keys), took, bad) for _ in range(int(connections))))
    else:
        await through_client(app, url, token, until, int(connections), took)
    took.sort()
    lasted = time.monotonic() - began
    print(
        json.dumps(
            {
                "requests": len(took) / lasted,
                "bad": len(bad),
                "why": bad[0].decode() if bad else "",
                "p50": took[len(took) // 2],
                "p99": took[len(took) * 99 // 100],
            }
        )
    )


asyncio.run(main())
