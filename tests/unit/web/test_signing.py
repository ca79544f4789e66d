"""Signed requests: the token is proven and not sent, for one request at one host."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.web.signing import GOOD_FOR, Signed, key_of, sign
from support.web import KEY, Client

TOKEN = b"correct-horse"
REQUEST = ("POST", "host:8010", "/state/totals?form=raw")


def signed(
    token: bytes = TOKEN, request: tuple[str, str, str] = REQUEST, body: bytes = b"{}", now: float = 1000.0
) -> Signed:
    scheme, _, given = sign(token, *request, body, now).partition(" ")
    assert scheme == "kstream" and token.decode() not in given
    return Signed(given)


def test_who_knows_the_token_is_known() -> None:
    assert signed().is_good(TOKEN, *REQUEST, clock=lambda: 1000.0 + GOOD_FOR)
    assert signed().is_of(b"{}")


@pytest.mark.parametrize(
    ("made", "clock"),
    [
        ({"token": b"other"}, 1000.0),
        ({"request": ("GET", *REQUEST[1:])}, 1000.0),
        ({"request": ("POST", "elsewhere:8010", REQUEST[2])}, 1000.0),
        ({"request": (*REQUEST[:2], "/state/totals?form=json")}, 1000.0),
        ({}, 1001.5 + GOOD_FOR),
        ({}, 998.5 - GOOD_FOR),
    ],
    ids=["token", "method", "host", "target", "old", "future"],
)
def test_a_signature_is_good_for_one_request_at_one_host_for_a_minute(made: dict[str, Any], clock: float) -> None:
    assert not signed(**made).is_good(TOKEN, *REQUEST, clock=lambda: clock)


def test_another_body_is_noticed() -> None:
    assert not signed().is_of(b"{ }")


@pytest.mark.parametrize("given", ["", "a.b", "1.2.3.4"])
def test_what_is_none_is_none(given: str) -> None:
    with pytest.raises(ValueError):
        Signed(given)


@pytest.mark.parametrize("at", ["x", "9" * 400, "-5", "٣"])
def test_a_time_that_is_none_is_old(at: str) -> None:
    assert not Signed(f"{at}.b.c").is_good(TOKEN, *REQUEST)


def test_a_signature_opens_queries_of_state_and_nothing_else(client: Client) -> None:
    host = f"127.0.0.1:{client.server.port}"
    for path, status in (("/state/x/%C3%A4?form=raw", 404), ("/api/status", 401), ("/statement", 401)):
        given = sign(KEY, "GET", host, path)
        assert client.ask(path, token=None, Authorization=given).status == status, path
    given = sign(KEY, "POST", host, "/state/x", b'{"keys":[]}')
    assert client.ask("/state/x", "POST", b'{"keys":[]}', token=None, Authorization=given).status == 404
    assert client.ask("/state/x", "POST", b'{"keys":[1]}', token=None, Authorization=given).status == 401
    assert "off" in client.ask("/state/x/key").json["error"]


def test_another_app_with_the_same_token_does_not_answer(client: Client) -> None:
    host = f"127.0.0.1:{client.server.port}"
    for key in (key_of("correct-horse", "other"), b"correct-horse", b""):
        assert client.ask("/state", token=None, Authorization=sign(key, "GET", host, "/state")).status == 401
    assert client.ask("/state", token=None, Authorization=sign(KEY, "GET", host, "/state")).status == 404
