"""A client of a web server, over real sockets."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from kstream.web.server import WebServer
from kstream.web.signing import key_of

TOKEN = "correct-horse"
KEY = key_of(TOKEN, "app")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    server: WebServer

    def ask(
        self, path: str, method: str = "GET", body: Any = None, token: str | None = TOKEN, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given.setdefault("Authorization", f"Bearer {token}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
