"""The description of the API is that of the routes, and answers are as described, whatever is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Mount, Route

from kstream.web.api import LogLevel, SavepointWanted, make_app
from kstream.web.openapi import description
from kstream.web.server import WebServer
from support.cases import examples
from support.observed import LETTERS, FakeObserved
from support.web import TOKEN, Client

NOT_DESCRIBED = {"/"}
"""The page."""


def test_it_lists_exactly_the_routes_there_are(observed: FakeObserved) -> None:
    routes = make_app(observed, TOKEN).routes
    served = {
        (route.path_format, method.lower())
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD" and route.path not in NOT_DESCRIBED
    }
    assert [route.path for route in routes if isinstance(route, Mount)] == ["/static"]
    described = {
        (path, method)
        for path, methods in description(LogLevel, SavepointWanted)["paths"].items()
        for method in methods
    }
    assert described == served


def test_it_is_served_to_who_has_the_token(client: Client) -> None:
    assert client.ask("/api/openapi.json").json == description(LogLevel, SavepointWanted)
    assert client.ask("/api/openapi.json", token=None).status == 401


def test_what_needs_no_token_is_said(client: Client) -> None:
    for path, methods in description(LogLevel, SavepointWanted)["paths"].items():
        for method, operation in methods.items():
            status = client.ask(re.sub(r"{\w+}", "1", path), method.upper(), token=None).status
            assert (status == 401) == bool(operation["security"]), path


@pytest.mark.parametrize(
    "at",
    ["0/9223372036854775808", "2147483648/0", "0/" + "9" * 5000, "-1/0", "0/x", "\u0663/0"],
    ids=["offset", "partition", "long", "negative", "no number", "other digits"],
)
def test_numbers_that_kafka_does_not_have_are_nowhere(client: Client, at: str) -> None:
    answer = client.ask(f"/api/dead-letters/{LETTERS}/{quote(at)}")
    assert (answer.status, list(answer.json)) == (404, ["error"])


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    server = WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0)
    server.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    yield schemathesis.openapi.from_url(f"{server.url}/api/openapi.json", headers=headers)
    server.stop()


DESCRIBED = [
    (path, method) for path, methods in description(LogLevel, SavepointWanted)["paths"].items() for method in methods
]
DATA = {"/api/tables/{name}": [positive_data_acceptance]}
"""Whether there is such a table and whether the key is of its type hangs on the app."""
ENDLESS = "/api/events"


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize(("path", "method"), [one for one in DESCRIBED if one[0] != ENDLESS])
def test_answers_are_as_described_whatever_is_sent(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    """No 5xx but the ones that are described, the types that are, no action or data without the token."""
    operation = api[path][method.upper()]

    @examples(15, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=DATA.get(path, []))

    try:
        send()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE and not operation.body and not operation.query
