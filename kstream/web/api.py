"""The routes: health, metrics, what the page shows, and the few actions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from kstream.errors import ConfigError, KafkaUnavailable, SavepointFailed, UsageError
from kstream.observe.logs import LEVELS
from kstream.observe.observed import Observed
from kstream.observe.status import Health
from kstream.runtime.cluster.control import LONGEST_TIMEOUT
from kstream.state.savepoint import NAME
from kstream.web.answers import Json, failure
from kstream.web.feed import Feed
from kstream.web.guard import Guard
from kstream.web.state import FOLDER, State

LOGGER = logging.getLogger(__name__)
LOOKUP_SECONDS: Final = 5.0
"""Workers listen twice a second, unless user code holds them up."""

READ_SECONDS: Final = 20.0
"""For what is read from Kafka; a request may take half as long again (connections.py)."""

METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus asks for."""

STATIC: Final = Path(__file__).parent / "static"

Endpoint = Callable[[Request], Awaitable[Response]]


class LogLevel(msgspec.Struct, forbid_unknown_fields=True):
    """What `/api/log-level` is sent. Without `logger` it is the level of all."""

    level: Annotated[str, msgspec.Meta(max_length=20, extra_json_schema={"enum": list(LEVELS)})]
    logger: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class SavepointWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What `/api/savepoints` is sent. Without `name` it is called by the moment; `timeout`: seconds for which inputs
    are held at most."""

    name: Annotated[str, msgspec.Meta(max_length=100, extra_json_schema={"pattern": NAME})] | None = None
    timeout: Annotated[float, msgspec.Meta(ge=1, le=LONGEST_TIMEOUT)] = 60.0


def make_app(
    observed: Observed, token: str, feed: Feed | None = None, names: Iterable[str] = (), state: State | None = None
) -> Starlette:
    """The ASGI application of one instance; all but health, metrics and the empty page need the bearer `token`.

    `names` are the host names it may be asked under, besides localhost and addresses.
    """
    state, names = state or State(None, None), list(names)
    return _App(
        state,
        Guard(state.answer, token, state.key, names),
        routes=[
            *state.routes(),
            *_open_routes(observed),
            *_data_routes(observed, feed or Feed(observed)),
            *_action_routes(observed),
        ],
        middleware=[Middleware(Guard, token=token, key=state.key, names=names)],
        exception_handlers={HTTPException: _refused, ConfigError: _not_accepted, Exception: _failed},
    )


class _App(Starlette):
    """Requests for keys of state go past Starlette's layers: they cost more than all else that an answer takes."""

    def __init__(self, state: State, quick: ASGIApp, **rest: Any) -> None:
        super().__init__(**rest)
        self._keys, self._quick = state, quick

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(FOLDER) and self._keys.answers(scope):
            await self._quick(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _open_routes(observed: Observed) -> list[BaseRoute]:
    async def metrics(_: Request) -> Response:
        return Response(observed.metrics(), headers={"content-type": METRICS})

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    return [
        Route("/live", _probe(observed.live)),
        Route("/ready", _probe(observed.ready)),
        Route("/startup", _probe(observed.started)),
        Route("/metrics", metrics),
        Route("/", page),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def _data_routes(observed: Observed, feed: Feed) -> list[BaseRoute]:
    async def table(request: Request) -> Response:
        key = request.query_params.get("key")
        if key is None:
            return failure(400, "which key? ask for /api/tables/NAME?key=KEY")
        try:
            asked = asyncio.wrap_future(observed.look_up(request.path_params["name"], key))
            entry = await asyncio.wait_for(asked, LOOKUP_SECONDS)
        except UsageError as error:
            return failure(400, str(error))
        except TimeoutError:
            return failure(504, f"no answer of the workers within {LOOKUP_SECONDS:g} s: try again")
        return Json(entry, 200 if entry.found else 404)

    async def letters(_: Request) -> Response:
        return await _read(observed.dead_letters)

    async def letter(request: Request) -> Response:
        at = request.path_params
        partition, offset = (_number(at[name], most) for name, most in (("partition", 2**31), ("offset", 2**63)))
        if partition is None or offset is None:
            return failure(404, f"there is no {request.url.path}")
        return await _read(lambda: observed.dead_letter(at["topic"], partition, offset))

    async def openapi(_: Request) -> Response:
        from kstream.web.openapi import description

        return Json(description(LogLevel, SavepointWanted))

    return [
        Route("/api/openapi.json", openapi),
        Route("/api/tables/{name}", table),
        Route("/api/dead-letters", letters),
        Route("/api/dead-letters/{topic}/{partition}/{offset}", letter),
        Route("/api/status", _get(observed.status)),
        Route("/api/instances", _get(observed.instances)),
        Route("/api/graph", _get(observed.graph)),
        Route("/api/history", _get(observed.history)),
        Route("/api/settings", _get(observed.settings)),
        Route("/api/events", feed, methods=["GET"]),
    ]


def _action_routes(observed: Observed) -> list[BaseRoute]:
    async def pause(_: Request) -> Response:
        LOGGER.warning("paused by request")
        observed.pause()
        return Json({"paused": True})

    async def resume(_: Request) -> Response:
        LOGGER.warning("resumed by request")
        observed.resume()
        return Json({"paused": False})

    async def log_level(request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body(), type=LogLevel)
        except msgspec.DecodeError as error:
            return failure(400, f'{error}; send {{"level": "DEBUG"}}, or {{"level": "DEBUG", "logger": "name"}}')
        observed.set_log_level(wanted.level, wanted.logger or None)
        LOGGER.warning("log level set to %s by request", wanted.level, extra={"of": wanted.logger or "all"})
        return Json(wanted)

    async def savepoint(request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body() or b"{}", type=SavepointWanted)
            return Json(observed.make_savepoint(wanted.name or None, wanted.timeout), 202)
        except msgspec.DecodeError as error:
            return failure(400, f'{error}; send {{"name": "before-upgrade"}}, or nothing')
        except UsageError as error:
            return failure(400, str(error))
        except SavepointFailed as error:
            return failure(409, error.why)

    return [
        Route("/api/savepoints", savepoint, methods=["POST"]),
        Route("/api/pause", pause, methods=["POST"]),
        Route("/api/resume", resume, methods=["POST"]),
        Route("/api/log-level", log_level, methods=["POST"]),
    ]


async def _read(ask: Callable[[], Future[Any]]) -> Response:
    """What is read from Kafka. Others may wait for the same, so it goes on where this one does not wait any more."""
    try:
        answer = asyncio.wrap_future(ask())
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # told, if anybody waits still
        return Json(await asyncio.wait_for(asyncio.shield(answer), READ_SECONDS))
    except TimeoutError:
        return failure(504, f"Kafka did not answer within {READ_SECONDS:g} s: try again")
    except KafkaUnavailable as error:
        return failure(503, str(error))
    except UsageError as error:
        return failure(404, str(error))


def _number(text: str, most: int) -> int | None:
    """A number of the path, from 0 and below `most`: Kafka has no others, and Python reads no longer ones."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else most
    return number if number < most else None


def _get(ask: Callable[[], Any]) -> Endpoint:
    async def answer(_: Request) -> Response:
        return Json(ask())

    return answer


def _probe(ask: Callable[[], Health]) -> Endpoint:
    async def answer(_: Request) -> Response:
        health = ask()
        return Json({"status": "ok" if health.ok else "failing", "reasons": health.reasons}, 200 if health.ok else 503)

    return answer


async def _refused(request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    message = {404: f"there is no {request.url.path}", 405: f"{request.url.path} does not take {request.method}"}
    return failure(error.status_code, message.get(error.status_code, error.detail), error.headers)


async def _not_accepted(_: Request, error: Exception) -> Response:
    return failure(400, str(error))


async def _failed(request: Request, error: Exception) -> Response:
    """A defect here or in the instance. Starlette logs nothing of it by itself; uvicorn logs the traceback."""
    return failure(500, f"{request.url.path} failed with {type(error).__name__}; the log has the trace")
