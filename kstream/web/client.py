"""`app.query()`: the committed state of a running app, asked over HTTP from any process that has its declarations.

It asks the instance that has a key (instances.py), and tries again while a partition moves: for the keys of that
partition only. The token is never sent (signing.py).
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
from urllib.parse import urlencode

import msgspec

from kstream.codecs import decode_value, encode_value
from kstream.codecs.keys import after_prefix, check_ordered
from kstream.errors import StateUnavailable, UsageError, ValueTooLarge
from kstream.observe.queried import StateEntries, StatePage
from kstream.runtime.process.questions import VALUE_BYTES
from kstream.specs.store import StoreSpec
from kstream.web.asking import Asking
from kstream.web.instances import LEAST_SECONDS, Instances

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
"""Requests for single keys of a store at a time to an instance; keys that come meanwhile share the next."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts."""


class Readable(Protocol[K_contra, V_co]):
    """A table, or the result of an aggregation."""

    @property
    def spec(self) -> StoreSpec: ...
    def __getitem__(self, key: K_contra, /) -> V_co: ...


class _Found(NamedTuple):
    """What was said of keys.

    Attributes:
        values: encoded, of those that are there.
        too_large: bytes of those values that are too large to be answered.
        unavailable: why nobody can say anything now.
    """

    values: dict[bytes, bytes]
    too_large: dict[bytes, int]
    unavailable: dict[bytes, str]

    def add(self, other: _Found) -> None:
        """All but what is unavailable: that is asked for again."""
        self.values.update(other.values)
        self.too_large.update(other.too_large)


class _Tries:
    """The attempts at one question. `why`: what the last said that failed."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.first, self._pause = True, 0.05
        self.why = f"there was no answer within {seconds:g} s"

    async def another(self) -> bool:
        """Pauses before another attempt; False where there is no time for one."""
        if time.monotonic() + self._pause + LEAST_SECONDS >= self.until:
            return False
        await asyncio.sleep(self._pause * (0.5 + random.random() / 2))
        self._pause, self.first = min(2 * self._pause, LONGEST_PAUSE), False
        return True


class _Gathering:
    """Keys of a store that are asked of an instance together, as soon as one of a few requests is through.

    Attributes:
        keys: those of the next request; `until`: when nobody waits for its answer any more.
        requests: that are under way or wait for it.
    """

    def __init__(self) -> None:
        self.keys: list[bytes] | None = None
        self.until = 0.0
        self.asked: asyncio.Future[_Found] | None = None
        self.requests = 0
        self.under_way = asyncio.Semaphore(UNDER_WAY)


class AsyncQuery:
    """Asks for committed entries, on the event loop that runs. Close it, or use it as `async with`.

    Args:
        stores: those of the app, by name.
        find: the URLs of the app's instances; called on a thread when none is known that answers, for all who ask.
        timeout: seconds for which a question is tried again.
    """

    def __init__(
        self,
        stores: Mapping[str, StoreSpec],
        find: Callable[[], Sequence[str]],
        key: bytes,
        timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._stores, self._timeout = stores, timeout
        self._asking = Asking(key, tls)
        self._instances = Instances(find, self._asking)
        self._gathering: dict[tuple[str, str | None], _Gathering] = {}

    async def __aenter__(self) -> AsyncQuery:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._instances.close()
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
        spec, tries = self._spec(table), _Tries(self._timeout)
        encoded = _encoded(spec, key)
        while encoded in (found := await self._gathered(spec, encoded, tries)).unavailable:
            tries.why = found.unavailable[encoded]
            if not await tries.another():
                raise StateUnavailable(f"store {spec.name}: {tries.why}", [key])
        if encoded in found.too_large:
            raise _too_large(spec, [key], found.too_large[encoded])
        raw = found.values.get(encoded)
        return default if raw is None else decode_value(spec.value.codec, raw)

    async def _gathered(self, spec: StoreSpec, key: bytes, tries: _Tries) -> _Found:
        """With the keys of the same store and instance that are asked for until a request is under way, a few at a
        time. A key that could not be looked up travels with others of its kind: the rest is not to wait for it."""
        try:
            async with asyncio.timeout(tries.until - time.monotonic()):
                await self._instances.found()
                at = spec.name, self._instances.owner(spec.name, spec.home_key(key)) if tries.first else None
                gathering = self._gathering.setdefault(at, _Gathering())
                if gathering.keys is None:
                    gathering.keys, gathering.requests = [], gathering.requests + 1
                    gathering.asked = asyncio.ensure_future(self._ask_gathered(spec, at, gathering))
                gathering.keys.append(key)
                gathering.until = max(gathering.until, tries.until)
                assert gathering.asked is not None
                return await asyncio.shield(gathering.asked)
        except TimeoutError:
            return _Found({}, {}, {key: tries.why})
        except StateUnavailable as error:
            return _Found({}, {}, {key: str(error)})

    async def _ask_gathered(self, spec: StoreSpec, at: tuple[str, str | None], gathering: _Gathering) -> _Found:
        found = _Found({}, {}, {})
        try:
            async with gathering.under_way:
                keys, gathering.keys = list(dict.fromkeys(gathering.keys or ())), None
                for first in range(0, len(keys), KEYS):
                    one = await self._entries(spec, at[1], keys[first : first + KEYS], gathering.until)
                    found.add(one)
                    found.unavailable.update(one.unavailable)
            return found
        finally:
            gathering.requests -= 1
            if not gathering.requests:
                del self._gathering[at]

    @overload
    async def get_many(self, table: Readable[K, V], keys: Iterable[K]) -> dict[K, V]: ...
    @overload
    async def get_many(self, table: str, keys: Iterable[Any]) -> dict[Any, Any]: ...
    async def get_many(self, table: Any, keys: Iterable[Any]) -> dict[Any, Any]:
        """The committed values of those of the keys that are there. Each value is committed; they need not be of one
        commit. Raises as `get`; a ValueTooLarge or StateUnavailable has what was found of the other keys."""
        spec, tries = self._spec(table), _Tries(self._timeout)
        encoded = {key: _encoded(spec, key) for key in keys}
        told, left = _Found({}, {}, {}), list(dict.fromkeys(encoded.values()))
        lost: dict[bytes, str] = {}
        while left:
            lost = {}
            for one in await asyncio.gather(*self._each_home(spec, left, tries)):
                told.add(one)
                lost |= one.unavailable
            left = list(lost) if lost and await tries.another() else []
        values, decode = told.values, spec.value.codec
        found = {key: decode_value(decode, values[data]) for key, data in encoded.items() if data in values}
        if lost:
            of_them = [key for key, data in encoded.items() if data in lost]
            why = f"store {spec.name}: {len(of_them)} of {len(encoded)} keys: {next(iter(lost.values()))}"
            raise StateUnavailable(why, of_them, found)
        if told.too_large:
            large = [key for key, data in encoded.items() if data in told.too_large]
            raise _too_large(spec, large, max(told.too_large.values()), found)
        return found

    def _each_home(
        self, spec: StoreSpec, keys: Sequence[bytes], tries: _Tries
    ) -> Iterator[Coroutine[Any, Any, _Found]]:
        """Keys of one home are asked of the instance that has it, those that it could not look up of any."""
        homes: dict[str | None, list[bytes]] = {}
        for key in keys:
            home = self._instances.owner(spec.name, spec.home_key(key)) if tries.first else None
            homes.setdefault(home, []).append(key)
        for url, of_it in homes.items():
            for first in range(0, len(of_it), KEYS):
                yield self._entries(spec, url, of_it[first : first + KEYS], tries.until)

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
            page = await self._page(spec, given)
            for entry in page.entries:
                key = spec.key.codec.decode(_binary(entry.key))
                if entry.too_large is not None:
                    raise _too_large(spec, [key], entry.too_large)
                yield key, decode_value(spec.value.codec, _binary(entry.value))
            if page.cursor is None:
                return
            given["cursor"] = page.cursor

    def _spec(self, table: Any) -> StoreSpec:
        name = table if isinstance(table, str) else table.spec.name
        if name not in self._stores:
            raise UsageError(f"there is no store {name!r}; there are: {', '.join(self._stores) or 'none'}")
        return self._stores[name]

    async def _page(self, spec: StoreSpec, given: Mapping[str, str]) -> StatePage:
        tries = _Tries(self._timeout)
        while True:
            try:
                return await self._instances.ask(None, spec.name, urlencode(given), None, StatePage, tries.until)
            except StateUnavailable as error:
                if not await tries.another():
                    raise StateUnavailable(f"store {spec.name}: {error}") from None

    async def _entries(self, spec: StoreSpec, url: str | None, keys: Sequence[bytes], until: float) -> _Found:
        """One attempt; what an answer has no room for is asked for again. Keys that others have are found too."""
        found = _Found({}, {}, {})
        while keys:
            body = msgspec.json.encode({"keys": list(map(_text, keys))})
            try:
                told = await self._instances.ask(url, spec.name, "form=raw", body, StateEntries, until)
            except StateUnavailable as error:
                found.unavailable.update(dict.fromkeys(keys, str(error)))
                break
            for one in told.entries:
                if one.too_large is None:
                    found.values[_binary(one.key)] = _binary(one.value)
                else:
                    found.too_large[_binary(one.key)] = one.too_large
            found.unavailable.update((_binary(lost.key), lost.why) for lost in told.unavailable)
            if told.unavailable:
                self._instances.moved()
            if len(told.left) >= len(keys):
                raise UsageError(f"store {spec.name}: an instance answers none of {len(keys)} keys and leaves them all")
            keys = list(map(_binary, told.left))
        return found


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
