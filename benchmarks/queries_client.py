"""`python -m benchmarks.queries_client URL TOKEN SECONDS RATE CONNECTIONS KEYS`: asks for committed totals over kept
connections, so many requests a second at most (0: as many as are answered), KEYS at a time (0: through
`app.async_query()`). Prints what came of it."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from urllib.parse import urlsplit

from benchmarks.queries_service import KEYS, make_app
from kstream.config import Settings
from kstream.web.client import AsyncQuery


async def ask(url: str, token: str, until: float, pause: float, keys: int, took: list[float], bad: list[bytes]) -> None:
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = f"Host: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
    due = time.monotonic() + random.random() * pause
    while (now := time.monotonic()) < until:
        if due > now:
            await asyncio.sleep(due - now)
        due += pause
        began = time.monotonic()
        if keys == 1:
            writer.write(f"GET /state/totals/{random.randrange(KEYS)} HTTP/1.1\r\n{head}\r\n".encode())
        else:
            body = json.dumps({"keys": [str(random.randrange(KEYS)) for _ in range(keys)]})
            more = f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
            writer.write(f"POST /state/totals HTTP/1.1\r\n{head}{more}\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        body_read = await reader.readexactly(length)
        took.append(time.monotonic() - began)
        if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404")):  # a key that is not counted yet is an answer too
            bad.append(body_read)
    writer.close()


async def through_client(url: str, token: str, until: float, tasks: int, took: list[float]) -> None:
    async def on_and_on(query: AsyncQuery) -> None:
        while (began := time.monotonic()) < until:
            await query.get("totals", str(random.randrange(KEYS)))
            took.append(time.monotonic() - began)

    async with make_app("bench").async_query(urls=[url], settings=Settings(web_token=token)) as query:
        await asyncio.gather(*(on_and_on(query) for _ in range(tasks)))


async def main() -> None:
    url, token, seconds, rate, connections, keys = sys.argv[1:]
    took: list[float] = []
    bad: list[bytes] = []
    began = time.monotonic()
    pause = int(connections) / float(rate) if float(rate) else 0.0
    asked = (ask(url, token, began + float(seconds), pause, int(keys), took, bad) for _ in range(int(connections)))
    await asyncio.gather(*asked)
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
