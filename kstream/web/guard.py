"""Who may ask, and what a browser may do with the answer.

Health and metrics are open, because probes and scrapers carry no token; so is the page, which holds no data. All else
needs the bearer token, unknown paths included. A browser never sends such a token by itself, so another site's page can
neither read nor do anything; actions are refused to it even with the token.
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kstream.web.answers import failure

OPEN: Final = frozenset({"/", "/live", "/ready", "/startup", "/metrics"})
OPEN_FOLDER: Final = "/static/"

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


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                # the page's files carry an ETag, so asking each time costs little and a new version shows at once
                headers["cache-control"] = "no-cache" if self.is_page(path) else "no-store"
            await send(message)

        headers = Headers(scope=scope)
        if not self.is_open(path) and not self.knows_token(headers):
            app: ASGIApp = failure(
                401,
                "a token is needed: send the header 'Authorization: Bearer TOKEN' with the setting web_token, or with "
                "what is in the file web-token of the state directory",
                {"www-authenticate": "Bearer"},
            )
        elif scope["method"] == "POST" and is_from_another_site(headers):
            app = failure(403, "actions are taken only from this instance's own page, or from outside a browser")
        else:
            app = self.app
        await app(scope, receive, send_with_headers)

    def is_page(self, path: str) -> bool:
        return path == "/" or path.startswith(OPEN_FOLDER)

    def is_open(self, path: str) -> bool:
        return path in OPEN or path.startswith(OPEN_FOLDER)

    def knows_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self.token)


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
