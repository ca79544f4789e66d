"""Queries of committed state at /state: single keys, many keys, and ranges, page by page.

Who is asked for what: finding.py. While a partition moves or is restored, the answer is 503 with Retry-After; of many
keys those that are not of it are answered.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from kstream.codecs.base import BuiltIn
from kstream.codecs.keys import ENCODINGS, FORMS, after_prefix, check_ordered, key_bytes, shown_key
from kstream.codecs.text import decoded, from_json
from kstream.errors import StateUnavailable, UsageError, ValueTooLarge
from kstream.observe.queried import StateEntries, StateEntry, StateKeys, StatePage, StateUnanswered
from kstream.runtime.process.questions import ANSWER_BYTES, PAGE_BYTES, VALUE_BYTES
from kstream.runtime.view.queries import Queries, Served
from kstream.specs.global_table import GlobalSpec
from kstream.specs.store import StoreSpec
from kstream.web.answers import Json, failure
from kstream.web.asking import Asking
from kstream.web.finding import Finding
from kstream.web.forms import cursor_at, place_of, text

LIMIT: Final = 100
"""Entries of a page, where nobody says how many."""
MOST: Final = 1000
"""Entries of a page, and keys that are looked up together, at most."""
RETRY: Final = {"retry-after": "1"}

FOLDER: Final = "/state/"

PARAMETERS: Final[Mapping[str, str]] = {
    "form": "json (as people read it), or raw: keys and values are their bytes, as base64url.",
    "encoding": "How keys that are bytes are written: base64url, hex or text.",
    "partition": "Only this one is asked.",
    "here": "1: only what this instance has; how instances ask each other.",
}
RANGE: Final[Mapping[str, str]] = {
    "from": "The first key of the range.",
    "to": "The key before which it ends.",
    "prefix": "Only keys that begin so.",
    "limit": f"Entries at most (1 to {MOST}).",
    "cursor": "Where to go on: what the page before said.",
}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request: its store, and how keys and values are written."""

    store: Served
    given: Mapping[str, str]
    form: Any
    encoding: Any
    partition: int | None
    here: bool

    def key(self, text: str, what: str = "the key") -> bytes:
        return key_bytes(self.store.spec.key.codec, text, self.form, self.encoding, what)

    def shown(self, key: bytes) -> Any:
        return text(key) if self.form == "raw" else shown_key(self.store.spec.key.codec, key, self.encoding)

    def entry(self, key: bytes, value: bytes, partition: int, too_large: int | None = None) -> StateEntry:
        """`too_large`: bytes of a value that has more than are answered."""
        if too_large is not None:
            return StateEntry(self.shown(key), None, partition, too_large=too_large)
        if self.form == "raw":
            return StateEntry(text(key), text(value), partition)
        return _json_entry(self.store.spec, self.shown(key), value, partition)


class State:
    """The routes, and who is asked. `queries` is None where the setting state_queries is off; `key` is what requests
    are signed with (signing.key_of)."""

    def __init__(self, queries: Queries | None, key: bytes | None, tls: ssl.SSLContext | None = None) -> None:
        self._queries, self.key = queries, key
        self._finding = None if queries is None or key is None else Finding(queries, Asking(key, tls))
        self._one = self._guarded(self._of_store(self._entry))
        self._many = self._guarded(self._of_store(self._entries))

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/state", self._guarded(self._overview)),
            Route("/state/{store}", self._guarded(self._of_store(self._page, {**PARAMETERS, **RANGE}))),
            Route("/state/{store}", self._many, methods=["POST"]),
            Route("/state/{store}/{key:path}", self._one),
        ]

    def answers(self, scope: Scope) -> bool:
        """Whether it is a request for keys, which `answer` answers: most of all requests, where there are any."""
        return self._endpoint(scope) is not None

    def _endpoint(self, scope: Scope) -> tuple[Endpoint, dict[str, str]] | None:
        store, slash, key = scope["path"].removeprefix(FOLDER).partition("/")
        if store and slash and scope["method"] == "GET":
            return self._one, {"store": store, "key": key}
        if store and not slash and scope["method"] == "POST":
            return self._many, {"store": store}
        return None

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the routes would do, without Starlette's search and its layers. Raises as they do, after a 500."""
        found = self._endpoint(scope)
        assert found is not None
        endpoint, scope["path_params"] = found
        try:
            response = await endpoint(Request(scope, receive))
        except Exception as error:
            words = f"{scope['path']} failed with {type(error).__name__}; the log has the trace"
            await failure(500, words)(scope, receive, send)
            raise
        await response(scope, receive, send)

    def _guarded(self, answer: Endpoint) -> Endpoint:
        @wraps(answer)
        async def guarded(request: Request) -> Response:
            if self._queries is None:
                return failure(404, "queries of state are off: set state_queries=true for the instances of the app")
            try:
                return await answer(request)
            except StateUnavailable as error:
                return failure(503, str(error), RETRY)
            except ValueTooLarge as error:
                return failure(413, str(error))
            except _Unknown as error:
                return failure(404, str(error))
            except UsageError as error:
                return failure(400, str(error))

        return guarded

    def _of_store(
        self,
        answer: Callable[[Finding, _Asked, Request], Awaitable[Response]],
        parameters: Mapping[str, str] = PARAMETERS,
    ) -> Endpoint:
        async def of_store(request: Request) -> Response:
            assert self._queries is not None and self._finding is not None
            return await answer(self._finding, _asked(self._queries, request, parameters), request)

        return of_store

    # ---- the routes

    async def _overview(self, _: Request) -> Response:
        assert self._queries is not None
        return Json(self._queries.overview())

    async def _entry(self, finding: Finding, asked: _Asked, request: Request) -> Response:
        key = asked.key(request.path_params["key"])
        answered = await finding.find(asked.store, [key], asked.partition, here=asked.here)
        if (why := answered.unavailable.get(key)) is not None:
            raise StateUnavailable(why)
        if key not in answered.found:
            return failure(404, f"store {asked.store.spec.name} has no such key")
        if (size := answered.too_large.get(key)) is not None:
            raise ValueTooLarge(
                f"the value in store {asked.store.spec.name} has {size:,} bytes, more than the {VALUE_BYTES:,} bytes "
                "that are answered"
            )
        return Json(asked.entry(key, *answered.found[key]))

    async def _entries(self, finding: Finding, asked: _Asked, request: Request) -> Response:
        try:
            sent = msgspec.json.decode(await request.body(), type=StateKeys).keys
        except msgspec.DecodeError as error:
            raise UsageError(f'{error}; send {{"keys": ["one", "two"]}}') from None
        if len(sent) > MOST:
            raise UsageError(f"{len(sent)} keys: ask for {MOST} at a time at most")
        keys = list(dict.fromkeys(_sent_key(asked, raw) for raw in sent))
        answered = await finding.find(asked.store, keys, asked.partition, here=asked.here)
        entries: list[StateEntry] = []
        left, size = [], 0
        for key in keys:
            value, partition = answered.found.get(key, (b"", -1))
            size += len(value)
            if key in answered.left or (entries and size > ANSWER_BYTES):
                left.append(asked.shown(key))
            elif key in answered.found:
                entries.append(asked.entry(key, value, partition, answered.too_large.get(key)))
        unavailable = [StateUnanswered(asked.shown(key), why) for key, why in answered.unavailable.items()]
        told = StateEntries(asked.store.spec.name, entries, sorted(answered.looked), left, unavailable)
        return Json(told, headers=RETRY if unavailable else None)

    async def _page(self, finding: Finding, asked: _Asked, _: Request) -> Response:
        store, limit = asked.store, _number(asked.given.get("limit"), "limit", LIMIT, 1, MOST)
        start, stop = _range(asked)
        partition, behind = (0 if asked.partition is None else asked.partition), start
        if (cursor := asked.given.get("cursor")) is not None:
            partition, behind = _place(cursor, start, store.partitions, asked.partition)
        last = store.partitions - 1 if asked.partition is None else asked.partition
        entries: list[StateEntry] = []
        size = 0
        at: str | None = None
        while True:
            part = await finding.part(store, partition, behind, stop, limit - len(entries), here=asked.here)
            for key, value in zip(part.keys, part.values, strict=True):
                entries.append(asked.entry(key, value, partition, part.too_large.get(key)))
                size += len(key) + len(value)
            if part.after is not None:
                at = cursor_at(partition, part.after)
                break
            if partition == last:
                break
            partition, behind = partition + 1, start
            if len(entries) >= limit or size >= PAGE_BYTES:
                at = cursor_at(partition, None)
                break
        return Json(StatePage(store.spec.name, entries, at))


class _Unknown(UsageError):
    """There is no such store."""


def _asked(queries: Queries, request: Request, known: Mapping[str, str]) -> _Asked:
    """Raises UsageError where the request makes no sense."""
    try:
        store = queries.store(request.path_params["store"])
    except UsageError as error:
        raise _Unknown(str(error)) from None
    given = dict(request.query_params) if request.scope["query_string"] else {}
    for name in given:
        if name not in known:
            raise UsageError(f"there is no parameter {name!r}; there are: {', '.join(known)}")
    form, encoding = given.get("form", "json"), given.get("encoding", "base64url")
    if form not in FORMS or encoding not in ENCODINGS:
        raise UsageError(f"form is one of {', '.join(FORMS)}, encoding one of {', '.join(ENCODINGS)}")
    partition = None
    if "partition" in given:
        partition = _number(given["partition"], "partition", 0, 0, store.partitions - 1)
    return _Asked(store, given, form, encoding, partition, given.get("here") == "1")


def _sent_key(asked: _Asked, raw: msgspec.Raw) -> bytes:
    """A key in a body: as JSON has it, and as text where it is raw or bytes."""
    plain = msgspec.json.decode(raw)
    if isinstance(plain, str):
        return asked.key(plain, "a key")
    found = None if asked.form == "raw" else from_json(asked.store.spec.key.codec, raw, "a key")
    if found is None:
        raise UsageError("a key is neither null, nor anything but text in raw form")
    return found


def _range(asked: _Asked) -> tuple[bytes, bytes | None]:
    given = asked.given
    if asked.form == "json" and not given.keys().isdisjoint(("from", "to", "prefix")):
        check_ordered(asked.store.spec.key.codec, f"store {asked.store.spec.name}")
    start = asked.key(given["from"], "from") if "from" in given else b""
    stop = asked.key(given["to"], "to") if "to" in given else None
    if "prefix" in given:
        prefix = asked.key(given["prefix"], "prefix")
        start, behind = max(start, prefix), after_prefix(prefix)
        stop = behind if stop is None else stop if behind is None else min(stop, behind)
    return start, stop


def _place(cursor: str, start: bytes, partitions: int, only: int | None) -> tuple[int, bytes]:
    """Where a cursor goes on: the partition, and the key to begin with."""
    partition, key = place_of(cursor)
    if not 0 <= partition < partitions or only not in (None, partition):
        raise UsageError("cursor is of another partition than is asked for")
    return partition, start if key is None else max(start, key + b"\0")


def _number(text: str | None, what: str, otherwise: int, least: int, most: int) -> int:
    if text is None:
        return otherwise
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{what} is a number from {least} to {most}")


def _json_entry(spec: StoreSpec, key: Any, value: bytes, partition: int) -> StateEntry:
    codec = spec.value.codec
    if isinstance(codec, BuiltIn) and codec.json and not (isinstance(spec, GlobalSpec) and _is_spoilt(value)):
        return StateEntry(key, msgspec.Raw(value), partition)  # it is JSON as it lies there
    shown = decoded(codec, value)
    return StateEntry(key, shown.plain, partition, shown.error)


def _is_spoilt(value: bytes) -> bool:
    """Whether it is no JSON. What others write into the topic of a global table may be anything."""
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True
    return False
