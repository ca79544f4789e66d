"""Queries of committed state at /state: single keys, many keys, and ranges, page by page.

What another instance has is asked of it, over HTTP and signed (signing.py); it answers for itself only, so nothing goes
round in circles. While a partition moves or is restored, the answer is 503 with Retry-After.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kstream.codecs.base import BuiltIn, Codec
from kstream.codecs.keys import ENCODINGS, FORMS, after_prefix, binary, check_ordered, key_bytes, shown_key
from kstream.codecs.text import decoded, from_json
from kstream.errors import StateUnavailable, UsageError
from kstream.observe.queried import StateEntries, StateEntry, StateKeys, StatePage
from kstream.observe.status import InstanceStatus
from kstream.runtime.process.queries import PAGE_BYTES
from kstream.runtime.view.queries import Answered, Queries, Served, ValueTooLarge
from kstream.web.answers import Json, failure
from kstream.web.asking import Asking

LIMIT: Final = 100
"""Entries of a page, where nobody says how many."""
MOST: Final = 1000
"""Entries of a page, and keys that are looked up together, at most."""
OTHER_SECONDS: Final = 6.0
"""For an answer of another instance."""
RETRY: Final = {"retry-after": "1"}
RETRY_SECONDS: Final = 1.0

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

    def entry(self, key: bytes, value: bytes, partition: int) -> StateEntry:
        if self.form == "raw":
            return StateEntry(_text(key), _text(value), partition)
        spec = self.store.spec
        return _json_entry(spec.value.codec, shown_key(spec.key.codec, key, self.encoding), value, partition)


class State:
    """The routes, and who is asked. `queries` is None where the setting state_queries is off."""

    def __init__(self, queries: Queries | None, token: str, tls: ssl.SSLContext | None = None) -> None:
        self._queries = queries
        self._asking = Asking(token, tls)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/state", self._guarded(self._overview)),
            Route("/state/{store}", self._guarded(self._page)),
            Route("/state/{store}", self._guarded(self._entries), methods=["POST"]),
            Route("/state/{store}/{key:path}", self._guarded(self._entry)),
        ]

    def _guarded(self, answer: Callable[[Queries, Request], Awaitable[Response]]) -> Endpoint:
        @wraps(answer)
        async def guarded(request: Request) -> Response:
            if self._queries is None:
                return failure(404, "queries of state are off: set state_queries=true for the instances of the app")
            try:
                return await answer(self._queries, request)
            except StateUnavailable as error:
                return failure(503, str(error), RETRY)
            except ValueTooLarge as error:
                return failure(413, str(error))
            except _Unknown as error:
                return failure(404, str(error))
            except UsageError as error:
                return failure(400, str(error))

        return guarded

    # ---- the routes

    async def _overview(self, queries: Queries, _: Request) -> Response:
        return Json(queries.overview())

    async def _entry(self, queries: Queries, request: Request) -> Response:
        asked = _asked(queries, request, PARAMETERS)
        key = asked.key(request.path_params["key"])
        answered = await self._find(queries, asked, [key])
        if key not in answered.found:
            return failure(404, f"store {asked.store.spec.name} has no such key")
        return Json(asked.entry(key, *answered.found[key]))

    async def _entries(self, queries: Queries, request: Request) -> Response:
        asked = _asked(queries, request, PARAMETERS)
        try:
            sent = msgspec.json.decode(await request.body(), type=StateKeys).keys
        except msgspec.DecodeError as error:
            raise UsageError(f'{error}; send {{"keys": ["one", "two"]}}') from None
        if len(sent) > MOST:
            raise UsageError(f"{len(sent)} keys: ask for {MOST} at a time at most")
        keys = [_sent_key(asked, raw) for raw in sent]
        answered = await self._find(queries, asked, keys)
        entries = [asked.entry(key, *answered.found[key]) for key in dict.fromkeys(keys) if key in answered.found]
        return Json(StateEntries(asked.store.spec.name, entries, sorted(answered.looked)))

    async def _page(self, queries: Queries, request: Request) -> Response:
        asked = _asked(queries, request, {**PARAMETERS, **RANGE})
        store, limit = asked.store, _number(asked.given.get("limit"), "limit", LIMIT, 1, MOST)
        start, stop = _range(asked)
        partition, after = (0 if asked.partition is None else asked.partition), start
        if (cursor := asked.given.get("cursor")) is not None:
            partition, after = _place(cursor, start, store.partitions, asked.partition)
        last = store.partitions - 1 if asked.partition is None else asked.partition
        entries: list[StateEntry] = []
        size = 0
        at: tuple[int, bytes | None] | None = None
        while True:
            keys, values, more = await self._part(queries, asked, partition, after, stop, limit - len(entries))
            entries += [asked.entry(key, value, partition) for key, value in zip(keys, values, strict=True)]
            size += sum(map(len, keys)) + sum(map(len, values))
            if more:
                at = partition, keys[-1]
                break
            if partition == last:
                break
            partition, after = partition + 1, start
            if len(entries) >= limit or size >= PAGE_BYTES:
                at = partition, None
                break
        return Json(StatePage(store.spec.name, entries, None if at is None else _text(msgspec.msgpack.encode(at))))

    # ---- who is asked

    async def _find(self, queries: Queries, asked: _Asked, keys: Sequence[bytes]) -> Answered:
        """Where it lies in a partition that nobody can be asked for, a key is not simply missing.

        Raises:
            StateUnavailable: a key was not found, and not all of where it may be could be looked at.
        """
        store, answered = asked.store, Answered()
        if asked.here:
            here = range(store.partitions) if asked.partition is None else [asked.partition]
            return await queries.look_up(store, keys, here)
        if asked.partition is None and store.spec.scope == "partition":
            raise UsageError(
                f"store {store.spec.name} may have a key in each of its {store.partitions} partitions: say which, "
                "?partition=NUMBER"
            )
        homes: dict[int, list[bytes]] = {}
        for key in keys:
            homes.setdefault(store.home(key) if asked.partition is None else asked.partition, []).append(key)
        if len(homes) == 1:
            ((partition, of_it),) = homes.items()
            await self._look_at(queries, store, partition, of_it, answered)
        else:
            await asyncio.gather(
                *(self._look_at(queries, store, partition, of_it, answered) for partition, of_it in homes.items())
            )
        missing = [key for key in keys if key not in answered.found]
        if not missing:
            return answered
        may_be: Iterable[int] = homes
        if asked.partition is None and not store.exact:
            await self._look_everywhere(queries, store, missing, answered)
            may_be = range(store.partitions) if any(key not in answered.found for key in missing) else ()
        for partition in may_be:
            if partition not in answered.looked:
                raise queries.nobody(store, partition)
        return answered

    async def _look_at(
        self, queries: Queries, store: Served, partition: int, keys: Sequence[bytes], into: Answered
    ) -> None:
        """One partition, here or in the instance that has it."""
        task = store.task(partition)
        if queries.worker_of(task) is not None:
            found = await queries.look_up(store, keys, [partition])
        elif (other := queries.elsewhere(task)) is not None and other[1].state == "running":
            found = await self._ask_other(other[0], store, keys, partition)
        else:
            return
        into.found.update(found.found)
        into.looked.update(found.looked)

    async def _look_everywhere(self, queries: Queries, store: Served, keys: Sequence[bytes], into: Answered) -> None:
        """All partitions that are not looked at yet, an instance at a time asked once."""
        rest = [partition for partition in range(store.partitions) if partition not in into.looked]
        others: dict[str, InstanceStatus] = {}
        here = []
        for partition in rest:
            task = store.task(partition)
            if queries.worker_of(task) is not None:
                here.append(partition)
            elif (other := queries.elsewhere(task)) is not None:
                others[other[0].instance] = other[0]
        asked: list[Awaitable[Answered]] = [queries.look_up(store, keys, here)] if here else []
        asked += [self._ask_other(other, store, keys, None) for other in others.values()]
        for found in await asyncio.gather(*asked):
            into.found.update(found.found)
            into.looked.update(found.looked)

    async def _part(
        self, queries: Queries, asked: _Asked, partition: int, start: bytes, stop: bytes | None, limit: int
    ) -> tuple[list[bytes], list[bytes], bool]:
        """Entries of one partition: keys, values, and whether there are more."""
        store, task = asked.store, asked.store.task(partition)
        result = await queries.page(store, partition, start, stop, limit)
        if result is not None:
            return result.keys, result.values, result.more
        other = queries.elsewhere(task)
        if asked.here or other is None or other[1].state != "running":
            raise queries.nobody(store, partition)
        given = {"partition": str(partition), "limit": str(limit), "from": _text(start)}
        if stop is not None:
            given["to"] = _text(stop)
        page = await self._other(other[0], store, given, None, StatePage)
        return (
            [binary(one.key, "base64url", "a key") for one in page.entries],
            [binary(one.value, "base64url", "a value") for one in page.entries],
            page.cursor is not None and bool(page.entries),
        )

    async def _ask_other(
        self, other: InstanceStatus, store: Served, keys: Sequence[bytes], partition: int | None
    ) -> Answered:
        given = {} if partition is None else {"partition": str(partition)}
        body = msgspec.json.encode({"keys": list(map(_text, keys))})
        found = await self._other(other, store, given, body, StateEntries)
        return Answered(
            {
                binary(one.key, "base64url", "a key"): (binary(one.value, "base64url", "a value"), one.partition)
                for one in found.entries
            },
            set(found.partitions),
        )

    async def _other(
        self, other: InstanceStatus, store: Served, given: Mapping[str, str], body: bytes | None, kind: Any
    ) -> Any:
        """What another instance answers for itself.

        Raises:
            StateUnavailable: it does not, or refuses.
        """
        if other.url is None:
            raise StateUnavailable(f"instance {other.instance} cannot be asked: it serves no page (the setting web)")
        query = urlencode({"here": "1", "form": "raw", **given})
        target = f"/state/{quote(store.spec.name, safe='')}?{query}"
        answer = await self._asking.ask(other.url, target, body, seconds=OTHER_SECONDS)
        try:
            if answer.status == 200:
                return msgspec.json.decode(answer.body, type=kind)
            why = str(msgspec.json.decode(answer.body, type=dict)["error"])
        except (msgspec.MsgspecError, KeyError):
            why = f"it answers {answer.status}"
        if answer.status == 413:
            raise ValueTooLarge(why)
        if answer.status == 401:
            why = "it has another token, or another time: set the same web_token for all instances"
        raise StateUnavailable(f"instance {other.instance} was asked: {why}")


class _Unknown(UsageError):
    """There is no such store."""


def _asked(queries: Queries, request: Request, known: Mapping[str, str]) -> _Asked:
    """Raises UsageError where the request makes no sense."""
    try:
        store = queries.store(request.path_params["store"])
    except UsageError as error:
        raise _Unknown(str(error)) from None
    given = dict(request.query_params)
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
    try:
        partition, key = msgspec.msgpack.decode(binary(cursor, "base64url", "cursor"), type=tuple[int, bytes | None])
    except (msgspec.MsgspecError, UsageError):
        raise UsageError("cursor is none that a page said") from None
    if not 0 <= partition < partitions or only not in (None, partition):
        raise UsageError("cursor is of another partition than is asked for")
    return partition, start if key is None else max(start, key + b"\0")


def _number(text: str | None, what: str, otherwise: int, least: int, most: int) -> int:
    if text is None:
        return otherwise
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{what} is a number from {least} to {most}")


def _json_entry(codec: Codec[Any], key: Any, value: bytes, partition: int) -> StateEntry:
    if isinstance(codec, BuiltIn) and codec.json:  # it is JSON as it lies there
        return StateEntry(key, msgspec.Raw(value), partition)
    shown = decoded(codec, value)
    return StateEntry(key, shown.plain, partition, shown.error)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
