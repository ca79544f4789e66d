"""Who may ask, how much, and what a browser may do with the answer.

Health and metrics are open, because probes and scrapers carry no token; so is the page, which holds no data. All else
needs the bearer token, unknown paths included. A browser never sends such a token by itself, so another site's page can
neither read nor do anything; actions are refused to it even with the token.

A site may also let its own name lead to this instance's address, and then a browser takes it for that site (DNS
rebinding). So only names that are this instance's are answered. An address has no name that could be led elsewhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kstream.web.answers import failure
from kstream.web.signing import ONLY, SCHEME, Signed

OPEN: Final = frozenset({"/", "/live", "/ready", "/startup", "/metrics"})
OPEN_FOLDER: Final = "/static/"
BODY_BYTES: Final = 8 * 1024
"""The longest body of a request; actions need a hundred bytes."""
KEYS_BYTES: Final = 256 * 1024
"""The same of one that asks for many keys of a store."""

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


_ALL: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_PAGES: Final = [*_ALL, (b"cache-control", b"no-cache")]
"""The page's files carry an ETag, so asking each time costs little and a new version shows at once."""
_DATAS: Final = [*_ALL, (b"cache-control", b"no-store")]


class Guard:
    """ASGI middleware around the whole application.

    Args:
        key: what this app's instances and clients sign with (signing.key_of); None: nothing signed is taken.
        names: host names it may be asked under, besides localhost; `*.example.com` is all below it, `*` any.
    """

    def __init__(self, app: ASGIApp, token: str, key: bytes | None, names: Iterable[str] = ()) -> None:
        self.app = app
        self.token, self.key = token.encode(), key
        self.names = frozenset(name.lower().rstrip(".") for name in ("localhost", *names) if name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with suppress(ClientDisconnect):  # half a request is none: nobody is there for an answer
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *(_PAGES if self.is_page(path) else _DATAS)]
            await send(message)

        headers = Headers(scope=scope)
        most = KEYS_BYTES if path.startswith(ONLY) else BODY_BYTES
        if not self.is_ours(headers.get("host")):
            app: ASGIApp = failure(
                421, "this instance is not known under the host name that was asked: ask its address, or set web_hosts"
            )
        elif not self.is_open(path) and not (self.knows_token(headers) or self.is_signed(headers, scope)):
            app = failure(
                401,
                "a token is needed: send the header 'Authorization: Bearer TOKEN' with the setting web_token, or with "
                "what is in the file web-token of the state directory",
                {"www-authenticate": "Bearer"},
            )
        elif scope["method"] == "POST" and is_from_another_site(headers):
            app = failure(403, "actions are taken only from this instance's own page, or from outside a browser")
        elif (body := await read_body(headers, receive, most) if scope["method"] == "POST" else b"") is None:
            app = failure(413, f"the body of a request may have {most:,} bytes at most")
        elif (signed := signature(headers)) is not None and not signed.is_of(body):
            app = failure(401, "the signature of the request is of another body", {"www-authenticate": "Bearer"})
        else:
            app = self.app
            if scope["method"] == "POST":
                receive = replayed(body, receive)
        await app(scope, receive, send_with_headers)

    def is_ours(self, host: str | None) -> bool:
        """Whether the `Host` is an address or a name of this instance. Every browser sends one."""
        if host is None or "*" in self.names:
            return True
        name = host_name(host)
        if is_address(name) or name in self.names:
            return True
        return any(one.startswith("*.") and name.endswith(one[1:]) for one in self.names)

    def is_page(self, path: str) -> bool:
        return path == "/" or path.startswith(OPEN_FOLDER)

    def is_open(self, path: str) -> bool:
        return path in OPEN or path.startswith(OPEN_FOLDER)

    def knows_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self.token)

    def is_signed(self, headers: Headers, scope: Scope) -> bool:
        """Whether another instance or `app.query()` of this app asks, and proves to know the token."""
        path: str = scope["path"]
        if self.key is None or (path != ONLY and not path.startswith(f"{ONLY}/")):
            return False
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        signed = signature(headers)
        return signed is not None and signed.is_good(self.key, scope["method"], headers.get("host", ""), target)


def signature(headers: Headers) -> Signed | None:
    """What the request is signed with, if it is."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != SCHEME:
        return None
    with suppress(ValueError):
        return Signed(given.strip())
    return None


def is_from_another_site(headers: Headers) -> bool:
    """Whether a browser says that another site's page sends this.

    `Sec-Fetch-Site` is the browser's own word, and right behind proxies too. Browsers leave it out over plain HTTP
    (except on localhost); then the host of `Origin` must be the one that was asked.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def host_name(host: str) -> str:
    """Of a `Host` header, without the port: the name in lower case, or the address without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


@lru_cache(maxsize=64)
def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def read_body(headers: Headers, receive: Receive, most: int = BODY_BYTES) -> bytes | None:
    """All of a request's body; None when it is longer than `most` bytes, and then the rest is not read.

    Raises:
        ClientDisconnect: the connection ended before the body did.
    """
    if len(length := headers.get("content-length", "0")) > 9 or int(length) > most:
        return None
    body, more = b"", True
    while more and len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return None if len(body) > most else body


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for what comes after a body that was read here."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message
