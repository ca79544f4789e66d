"""The OpenAPI description of what an instance serves, at /api/openapi.json, made from the types that are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal

import msgspec

from kstream.observe.letters import DeadLetters, LetterDetails
from kstream.observe.queried import StateEntries, StateEntry, StateKeys, StateOverview, StatePage
from kstream.observe.status import Graph, InstanceStatus, Point, SavepointStatus, SettingStatus, TableEntry
from kstream.web.state import PARAMETERS, RANGE

TEXT: Final = "text/plain"
EVENTS: Final = "text/event-stream"


class Failure(msgspec.Struct):
    """Why a request is not answered, in one line that says what to do."""

    error: str


class Probe(msgspec.Struct):
    """Whether it is so, and if not, why."""

    status: Literal["ok", "failing"]
    reasons: list[str]


class Paused(msgspec.Struct):
    """Whether the instance is paused now."""

    paused: bool


@dataclass(frozen=True)
class Operation:
    """One path with its method.

    Attributes:
        answers: by status, the type of what is answered as JSON, several for one of them, or the media type of what is
            none.
        open: whether it needs no token.
        body: the type of what is sent.
        parameters: of the path ("path") or the query ("query"): what each is; `numbers` are those that are, `optional`
            those that may be left out.
    """

    path: str
    summary: str
    answers: Mapping[int, Any]
    method: str = "get"
    open: bool = False
    body: Any = None
    parameters: Mapping[tuple[str, str], str] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_REFUSALS: Final = {
    400: "The request is not understood, or asks under no name of this instance.",
    401: "The token is missing or wrong.",
    403: "An action that another site's page sends.",
    413: "The body is too long.",
    421: "The instance is not known under the host name that was asked.",
}


def operations(log_level: Any, savepoint: Any) -> list[Operation]:
    """All of them. `log_level` and `savepoint` are the types that /api/log-level and /api/savepoints take."""
    probe = {200: Probe, 503: Probe}
    reading = {503: Failure, 504: Failure}
    return [
        Operation("/live", "Whether the process works.", probe, open=True),
        Operation("/ready", "Whether all tasks run.", probe, open=True),
        Operation("/startup", "Whether the start is over.", probe, open=True),
        Operation("/metrics", "Metrics for Prometheus.", {200: TEXT}, open=True),
        Operation("/api/status", "This instance.", {200: InstanceStatus}),
        Operation("/api/instances", "All instances of the app, this one first.", {200: list[InstanceStatus]}),
        Operation("/api/graph", "The topology.", {200: Graph}),
        Operation("/api/history", "The last ten minutes, a point a second.", {200: list[Point]}),
        Operation("/api/settings", "Every setting, secrets hidden.", {200: list[SettingStatus]}),
        Operation("/api/events", "Changes as they come; it has no end.", {200: EVENTS, 503: Failure}),
        Operation("/api/openapi.json", "This description.", {200: dict[str, Any]}),
        Operation(
            "/api/tables/{name}",
            "The committed entry of a key.",
            {200: TableEntry, 400: Failure, 404: (TableEntry, Failure), 504: Failure},
            parameters={("path", "name"): "Of the table.", ("query", "key"): "As on the command line."},
        ),
        Operation("/api/dead-letters", "The latest dead letters.", {200: DeadLetters, **reading}),
        Operation(
            "/api/dead-letters/{topic}/{partition}/{offset}",
            "One dead letter whole.",
            {200: LetterDetails, 404: Failure, **reading},
            parameters={("path", name): "Where it lies." for name in ("topic", "partition", "offset")},
            numbers=frozenset({"partition", "offset"}),
        ),
        *_state_operations(),
        Operation(
            "/api/savepoints",
            "Begins to make a savepoint of the app; /api/status says what comes of it.",
            {202: SavepointStatus, 400: Failure, 409: Failure, 413: Failure},
            "post",
            body=savepoint,
        ),
        Operation("/api/pause", "Stops processing in this instance.", {200: Paused}, "post"),
        Operation("/api/resume", "Goes on.", {200: Paused}, "post"),
        Operation(
            "/api/log-level", "Sets a level.", {200: log_level, 400: Failure, 413: Failure}, "post", body=log_level
        ),
    ]


def _state_operations() -> list[Operation]:
    """Queries of state; 404 too where they are off."""
    store = {("path", "store"): "Of a table or an aggregation."}
    common = {("query", name): what for name, what in PARAMETERS.items()}
    refused = {400: Failure, 404: Failure, 413: Failure, 503: Failure}
    optional, numbers = frozenset((*PARAMETERS, *RANGE)), frozenset({"partition", "limit"})
    return [
        Operation("/state", "The stores, and who has what of them.", {200: StateOverview, 404: Failure}),
        Operation(
            "/state/{store}",
            "Committed entries, page by page.",
            {200: StatePage, **refused},
            parameters={**store, **common, **{("query", name): what for name, what in RANGE.items()}},
            optional=optional,
            numbers=numbers,
        ),
        Operation(
            "/state/{store}",
            "The committed entries of many keys.",
            {200: StateEntries, **refused},
            "post",
            body=StateKeys,
            parameters={**store, **common},
            optional=optional,
            numbers=numbers,
        ),
        Operation(
            "/state/{store}/{key}",
            "The committed entry of a key.",
            {200: StateEntry, **refused},
            parameters={**store, ("path", "key"): "As text, or as JSON where it is no text.", **common},
            optional=optional,
            numbers=numbers,
        ),
    ]


@cache
def description(log_level: Any, savepoint: Any) -> dict[str, Any]:
    """The document. Costs some ms, once."""
    found = operations(log_level, savepoint)
    named = [one for each in found for kind in (*each.answers.values(), each.body) for one in _each(kind)]
    types = [one for one in named if not isinstance(one, str | None)]
    template = "#/components/schemas/{name}"
    schemas, components = msgspec.json.schema_components([*types, Failure], ref_template=template)
    known = {_key(kind): schema for kind, schema in zip([*types, Failure], schemas, strict=True)}
    paths: dict[str, Any] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method] = _described(each, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kstream instance", "version": version("kstream")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(each: Operation, known: Mapping[str, Any]) -> dict[str, Any]:
    refused = {421} if each.open else {401, 421}
    refused |= {403, 413} if each.method == "post" else set()
    answers = {status: Failure for status in refused} | dict(each.answers)
    found: dict[str, Any] = {
        "summary": each.summary,
        "security": [] if each.open else [{"token": []}],
        "parameters": [
            {
                "name": name,
                "in": where,
                "required": name not in each.optional,
                "description": what,
                "schema": {"type": "integer", "minimum": 0} if name in each.numbers else {"type": "string"},
            }
            for (where, name), what in each.parameters.items()
        ],
        "responses": {str(status): _answer(status, kind, known) for status, kind in sorted(answers.items())},
    }
    if each.body is not None:
        content = {"application/json": {"schema": known[_key(each.body)]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answer(status: int, kind: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"description": "As text.", "content": {kind: {"schema": {"type": "string"}}}}
    schemas = [known[_key(one)] for one in _each(kind)]
    content = {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
    return {"description": _REFUSALS.get(status, "The answer."), "content": content}


def _each(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _key(kind: Any) -> str:
    return str(kind)
