"""`app.query()`: the committed state of a running app, asked over HTTP from any process that has its declarations.

It finds the app's instances through Kafka, as they find each other, asks the one that has a key, and tries again while
a partition moves. The token is never sent (signing.py).
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar, overload
from urllib.parse import quote, urlencode

import msgspec

from kstream.codecs import decode_value, encode_value
from kstream.codecs.keys import after_prefix, check_ordered
from kstream.errors import StateUnavailable, UsageError, ValueTooLarge
from kstream.observe.queried import QueriedStore, StateEntries, StateOverview, StatePage
from kstream.partitioning import partition_of
from kstream.runtime.process.questions import VALUE_BYTES
from kstream.specs.store import StoreSpec
from kstream.web.asking import Asking, Response

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
T = TypeVar("T")
K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)

PAGE: Final = 500
"""Entries that are asked for at a time."""
KEYS: Final = 500
"""Keys that are looked up at a time."""
UNDER_WAY: Final = 4
"""Requests for single keys of a store at a time; keys that come meanwhile share the next."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts."""


class Readable(Protocol[K_contra, V_co]):
    """A table, or the result of an aggregation."""

    @property
    def spec(self) -> StoreSpec: ...
    def __getitem__(self, key: K_contra, /) -> V_co: ...


class _Found(NamedTuple):
    """Encoded values by key, and bytes of those values that are too large to be answered."""

    values: dict[bytes, bytes]
    too_large: dict[bytes, int]

    def add(self, other: _Found) -> None:
        self.values.update(other.values)
        self.too_large.update(other.too_large)


class _Gathering:
    """Keys of a store that are asked for together, as soon as one of a few requests is through."""

    def __init__(self) -> None:
        self.keys: list[bytes] | None = None
        self.asked: asyncio.Future[_Found] | None = None
        self.under_way = asyncio.Semaphore(UNDER_WAY)


class AsyncQuery:
    """Asks for committed entries, on the event loop that runs. Close it, or use it as `async with`.

    Args:
        stores: those of the app, by name.
        find: the URLs of the app's instances; called on a thread of its own, when none is known that answers.
        timeout: seconds for which a question is tried again.
    """

    def __init__(
        self,
        stores: Mapping[str, StoreSpec],
        find: Callable[[], Sequence[str]],
        token: str,
        timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._stores, self._find, self._timeout = stores, find, timeout
        self._asking = Asking(token, tls)
        self._urls: list[str] = []
        self._gathering: dict[str, _Gathering] = {}
        self._known: dict[str, QueriedStore] = {}

    async def __aenter__(self) -> AsyncQuery:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._asking.close()

    @overload
    async def get(self, table: Readable[K, V], key: K) -> V | None: ...
    @overload
    async def get(self, table: Readable[K, V], key: K, default: D) -> V | D: ...
    @overload
    async def get(self, table: str, key: Any, default: Any = None) -> Any: ...
    async def get(self, table: Any, key: Any, default: Any = None) -> Any:
        """The committed value of a key, or `default`. Keys that others ask for meanwhile are asked for together.

        Raises:
            StateUnavailable: nobody could answer within the timeout.
            UsageError: there is no such store, or the key is not of its type.
            ValueTooLarge: the value has more bytes than are answered.
        """
        spec = self._spec(table)
        encoded = _encoded(spec, key)
        found = await self._gathered(spec, encoded)
        if encoded in found.too_large:
            raise _too_large(spec, [key], found.too_large[encoded])
        raw = found.values.get(encoded)
        return default if raw is None else decode_value(spec.value.codec, raw)

    async def _gathered(self, spec: StoreSpec, key: bytes) -> _Found:
        """With the keys of the same store that are asked for until a request is under way, a few at a time."""
        gathering = self._gathering.setdefault(spec.name, _Gathering())
        if gathering.keys is None:
            gathering.keys, gathering.asked = [], asyncio.ensure_future(self._ask_gathered(spec, gathering))
        gathering.keys.append(key)
        assert gathering.asked is not None
        return await asyncio.shield(gathering.asked)

    async def _ask_gathered(self, spec: StoreSpec, gathering: _Gathering) -> _Found:
        async with gathering.under_way:
            keys, gathering.keys = gathering.keys or [], None
            until = time.monotonic() + self._timeout
            found = _Found({}, {})
            for at in range(0, len(keys), KEYS):
                found.add(await self._entries(spec, list(dict.fromkeys(keys[at : at + KEYS])), until))
            return found

    @overload
    async def get_many(self, table: Readable[K, V], keys: Iterable[K]) -> dict[K, V]: ...
    @overload
    async def get_many(self, table: str, keys: Iterable[Any]) -> dict[Any, Any]: ...
    async def get_many(self, table: Any, keys: Iterable[Any]) -> dict[Any, Any]:
        """The committed values of those of the keys that are there. Each value is committed; they need not be of one
        commit. Raises as `get`; a ValueTooLarge has what was found of the other keys."""
        spec = self._spec(table)
        encoded = {key: _encoded(spec, key) for key in keys}
        raw = list(dict.fromkeys(encoded.values()))
        until = time.monotonic() + self._timeout
        asked = [self._entries(spec, raw[at : at + KEYS], until) for at in range(0, len(raw), KEYS)]
        told = _Found({}, {})
        for one in await asyncio.gather(*asked):
            told.add(one)
        values, decode = told.values, spec.value.codec
        found = {key: decode_value(decode, values[data]) for key, data in encoded.items() if data in values}
        if told.too_large:
            large = [key for key, data in encoded.items() if data in told.too_large]
            raise _too_large(spec, large, max(told.too_large.values()), found)
        return found

    @overload
    def items(
        self, table: Readable[K, V], *, start: K | None = None, stop: K | None = None, prefix: K | None = None
    ) -> AsyncIterator[tuple[K, V]]: ...
    @overload
    def items(self, table: str, *, start: Any = None, stop: Any = None, prefix: Any = None) -> AsyncIterator[Any]: ...
    async def items(
        self, table: Any, *, start: Any = None, stop: Any = None, prefix: Any = None
    ) -> AsyncIterator[tuple[Any, Any]]:
        """All entries, or those from `start` to before `stop`, or whose key begins with `prefix`: a partition after the
        other, in each by key. Pages are read as they are needed: what is changed meanwhile may be seen or not.

        Raises:
            As `get`; UsageError too where a range is asked for of keys that are neither text nor bytes.
        """
        spec = self._spec(table)
        if not start is stop is prefix is None:
            check_ordered(spec.key.codec, f"store {spec.name}")
        given = {"form": "raw", "limit": str(PAGE)}
        first, behind = (None if one is None else _encoded(spec, one) for one in (start, stop))
        if prefix is not None:
            begin = _encoded(spec, prefix)
            end = after_prefix(begin)
            first = begin if first is None else max(first, begin)
            behind = end if behind is None else behind if end is None else min(behind, end)
        given |= {name: _text(at) for name, at in (("from", first), ("to", behind)) if at is not None}
        while True:
            until = time.monotonic() + self._timeout
            page = await self._ask(spec, None, urlencode(given), None, StatePage, until)
            for entry in page.entries:
                key = spec.key.codec.decode(_binary(entry.key))
                if entry.too_large is not None:
                    raise _too_large(spec, [key], entry.too_large)
                yield key, decode_value(spec.value.codec, _binary(entry.value))
            if page.cursor is None:
                return
            given["cursor"] = page.cursor

    # ---- whom it asks

    def _spec(self, table: Any) -> StoreSpec:
        name = table if isinstance(table, str) else table.spec.name
        if name not in self._stores:
            raise UsageError(f"there is no store {name!r}; there are: {', '.join(self._stores) or 'none'}")
        return self._stores[name]

    async def _entries(self, spec: StoreSpec, keys: Sequence[bytes], until: float) -> _Found:
        """What an answer has no room for is asked for again."""
        found = _Found({}, {})
        while keys:
            answers = await self._asked(spec, keys, until)
            left: list[bytes] = []
            for entries in answers:
                for one in entries.entries:
                    if one.too_large is None:
                        found.values[_binary(one.key)] = _binary(one.value)
                    else:
                        found.too_large[_binary(one.key)] = one.too_large
                left += map(_binary, entries.left)
            if len(left) >= len(keys):
                raise UsageError(f"store {spec.name}: an instance answers none of {len(keys)} keys and leaves them all")
            keys = left
        return found

    async def _asked(self, spec: StoreSpec, keys: Sequence[bytes], until: float) -> list[StateEntries]:
        """Keys of one home are asked of the instance that has it; it finds the others itself."""
        homes: dict[str | None, list[bytes]] = {}
        if len(keys) != 1 and spec.name in self._known:
            for key in keys:
                homes.setdefault(self._owner(spec, key), []).append(key)
        else:
            homes[self._owner(spec, keys[0])] = list(keys)
        asked = [
            self._ask(
                spec, url, "form=raw", msgspec.json.encode({"keys": list(map(_text, of_it))}), StateEntries, until
            )
            for url, of_it in homes.items()
        ]
        return await asyncio.gather(*asked)

    def _owner(self, spec: StoreSpec, key: bytes) -> str | None:
        """The URL of the instance that has a key, as far as is known."""
        known = self._known.get(spec.name)
        if known is None or not known.partitions:
            return None
        home = partition_of(key, known.partitions)
        return next((owner.url for owner in known.owners if owner.partition == home), None)

    async def _ask(
        self, spec: StoreSpec, url: str | None, query: str, body: bytes | None, kind: type[T], until: float
    ) -> T:
        """What is answered by the instance at `url`, or by any; again and again until then."""
        target, pause = f"/state/{quote(spec.name, safe='')}?{query}", 0.05
        while True:
            try:
                await self._look(until)
                asked = url if url in self._urls else random.choice(self._urls)
                left = max(0.1, until - time.monotonic())
                return _decoded(asked, await self._asking.ask(asked, target, body, seconds=left), kind)
            except StateUnavailable as error:
                self._urls, self._known, url = [], {}, None
                if time.monotonic() + pause >= until:
                    raise StateUnavailable(f"store {spec.name}: {error}") from None
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _look(self, until: float) -> None:
        """Finds instances that answer, where none is known."""
        if self._urls:
            return
        found = list(await asyncio.to_thread(self._find))
        random.shuffle(found)
        why: StateUnavailable | None = None
        for url in found:
            left = min(5.0, max(0.1, until - time.monotonic()))
            try:
                overview = _decoded(url, await self._asking.ask(url, "/state", seconds=left), StateOverview)
            except StateUnavailable as error:
                why = error
                continue
            self._known = {store.name: store for store in overview.stores}
            owners = {owner.url for store in overview.stores for owner in store.owners if owner.url is not None}
            self._urls = list({url, *owners})
            return
        raise why or StateUnavailable("no instance of the app is heard of (web and announce_interval must be on)")


class Query:
    """The same for programs without an event loop: it has one on a thread of its own. Close it, or use it as `with`.
    Any thread may ask."""

    def __init__(self, make: Callable[[], AsyncQuery]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="query", daemon=True)
        self._thread.start()
        self._query = make()

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self._run(self._query.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @overload
    def get(self, table: Readable[K, V], key: K) -> V | None: ...
    @overload
    def get(self, table: Readable[K, V], key: K, default: D) -> V | D: ...
    @overload
    def get(self, table: str, key: Any, default: Any = None) -> Any: ...
    def get(self, table: Any, key: Any, default: Any = None) -> Any:
        """As `AsyncQuery.get`."""
        return self._run(self._query.get(table, key, default))

    @overload
    def get_many(self, table: Readable[K, V], keys: Iterable[K]) -> dict[K, V]: ...
    @overload
    def get_many(self, table: str, keys: Iterable[Any]) -> dict[Any, Any]: ...
    def get_many(self, table: Any, keys: Iterable[Any]) -> dict[Any, Any]:
        """As `AsyncQuery.get_many`."""
        return self._run(self._query.get_many(table, keys))

    @overload
    def items(
        self, table: Readable[K, V], *, start: K | None = None, stop: K | None = None, prefix: K | None = None
    ) -> Iterator[tuple[K, V]]: ...
    @overload
    def items(self, table: str, *, start: Any = None, stop: Any = None, prefix: Any = None) -> Iterator[Any]: ...
    def items(self, table: Any, *, start: Any = None, stop: Any = None, prefix: Any = None) -> Iterator[Any]:
        """As `AsyncQuery.items`."""
        entries = self._query.items(table, start=start, stop=stop, prefix=prefix)
        end = object()
        while (entry := self._run(_next(entries, end))) is not end:
            yield entry

    def _run(self, asked: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


async def _next(entries: AsyncIterator[Any], end: object) -> Any:
    return await anext(entries, end)


def _decoded(url: str, answer: Response, kind: type[T]) -> T:
    """Raises StateUnavailable where another may answer, or the same one later; UsageError where nobody will."""
    if answer.status == 200:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{url} does not answer as an instance of this version: {error}") from None
    try:
        why = str(msgspec.json.decode(answer.body, type=dict)["error"])
    except (msgspec.MsgspecError, KeyError):
        why = f"it answers {answer.status}"
    if answer.status == 401:
        raise UsageError(f"{url} has another token, or another time: set web_token as the instances have it")
    if answer.status in (400, 404, 413, 421):
        raise UsageError(f"{url}: {why}")
    raise StateUnavailable(f"{url}: {why}")


def _encoded(spec: StoreSpec, key: Any) -> bytes:
    try:
        found = encode_value(spec.key.codec, key)
    except Exception as error:
        raise UsageError(f"{key!r} cannot be a key of store {spec.name}: {error}") from error
    if found is None:
        raise UsageError(f"None cannot be a key of store {spec.name}")
    return found


def _too_large(
    spec: StoreSpec, keys: Sequence[Any], size: int, found: Mapping[Any, Any] | None = None
) -> ValueTooLarge:
    whose = f"the value of {keys[0]!r}" if len(keys) == 1 else f"{len(keys)} values, among them that of {keys[0]!r},"
    most = f"more than the {VALUE_BYTES:,} bytes that are answered"
    return ValueTooLarge(f"store {spec.name}: {whose} of up to {size:,} bytes, {most}", keys, found)


def _binary(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
