"""Tokens for OAUTHBEARER as librdkafka's settings get them (`kstream.runtime.kafka.bearer`)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest

from kstream.errors import ConfigError, KafkaUnavailable
from kstream.runtime.kafka.bearer import bearer, extensions_of
from kstream.runtime.kafka.entry import Tokens


class Endpoint:
    """A token endpoint. `asked` are the login and the body of each request."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b'{"access_token": "t-1", "expires_in": 60}'
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                login = base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()
                outer.asked.append((login, parse_qs(body)))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def oidc(endpoint: Endpoint, **more: str) -> dict[str, str]:
    return {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": endpoint.url,
        "sasl.oauthbearer.client.id": "flights",
        "sasl.oauthbearer.client.secret": "s+cret/=%",
        **{name.replace("__", "."): value for name, value in more.items()},
    }


def test_a_token_of_an_endpoint(endpoint: Endpoint) -> None:
    token = bearer(oidc(endpoint, sasl__oauthbearer__scope="kafka read"))
    assert endpoint.asked == [], "when it is wanted"
    assert token() == "t-1"
    assert endpoint.asked == [("flights:s+cret/=%", {"grant_type": ["client_credentials"], "scope": ["kafka read"]})]


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [(401, b"{}", "HTTPError: HTTP Error 401"), (200, b"<html>", "JSONDecodeError"), (200, b"{}", "'access_token'")],
)
def test_an_endpoint_without_a_token(endpoint: Endpoint, status: int, answer: bytes, said: str) -> None:
    endpoint.status, endpoint.answer = status, answer
    with pytest.raises(KafkaUnavailable, match="gives no token: ") as failed:
        bearer(oidc(endpoint))()
    assert said in str(failed.value) and "s+cret" not in str(failed.value)


@pytest.mark.parametrize(
    "more",
    [
        {"sasl__oauthbearer__grant__type": "urn:ietf:params:oauth:grant-type:jwt-bearer"},
        {"sasl__oauthbearer__metadata__authentication__type": "azure_imds"},
    ],
)
def test_what_only_librdkafka_can_ask_with(endpoint: Endpoint, more: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="cannot be used here, only a client's secret"):
        bearer(oidc(endpoint, **more))


def test_one_that_is_not_signed() -> None:
    given = "principalClaimName=azp principal=flights scopeClaimName=roles scope=a,b lifeSeconds=60"
    token = bearer({"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": given})()
    head, claims, signature = token.split(".")

    def read(part: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return found

    assert (read(head), signature) == ({"alg": "none"}, "")
    said = read(claims)
    assert (said["azp"], said["roles"]) == ("flights", ["a", "b"])
    assert float(str(said["exp"])) - float(str(said["iat"])) == 60


def test_a_function_comes_first(endpoint: Endpoint) -> None:
    tokens = Tokens("m:f", lambda: ("mine", 4e9))
    assert bearer({**oidc(endpoint), "oauth_cb": tokens})() == "mine"
    assert endpoint.asked == []


def test_nothing_that_gives_tokens() -> None:
    with pytest.raises(ConfigError, match="without kafka_tokens"):
        bearer({})


def test_extensions() -> None:
    assert extensions_of({}) == {}
    assert extensions_of({"sasl.oauthbearer.extensions": "a=1, b=x=y"}) == {"a": "1", "b": "x=y"}
