"""An app's instances, as `app.query()` knows them: their URLs, and which partitions they have.

They are found through Kafka, as they find each other, once for all who ask meanwhile. What an instance answers is no
reason to forget it, not even that a partition moves: then one of those that are known is asked who has what now. An
instance that ended leaves an address which another program, or another app's instance, may take: who answers there as a
stranger is forgotten, and is wrong about the request only if everybody is a stranger.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from kstream.errors import StateUnavailable, UsageError
from kstream.observe.queried import StateOverview
from kstream.partitioning import partition_of
from kstream.web.asking import Asking, Response

T = TypeVar("T")

OVERVIEW_SECONDS: Final = 5.0
"""For an instance to say who has what."""
AGAIN_SECONDS: Final = 1.0
"""Between two such questions, where nobody waits for the answer."""
LEAST_SECONDS: Final = 0.1
"""For an answer."""


class Instances:
    """Belongs to one event loop.

    Args:
        find: the URLs of the app's instances; called on a thread, one call at a time.
    """

    def __init__(self, find: Callable[[], Sequence[str]], asking: Asking) -> None:
        self._find, self._asking = find, asking
        self._urls: list[str] = []
        self._owners: dict[str, tuple[int, dict[int, str]]] = {}  # of a store: partitions, and the URLs of those had
        self._looking: asyncio.Future[None] | None = None
        self._looked = float("-inf")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def owner(self, store: str, key: bytes) -> str | None:
        """The URL of the instance that has a key, as far as is known."""
        partitions, owners = self._owners.get(store, (0, {}))
        return owners.get(partition_of(key, partitions)) if partitions else None

    async def found(self) -> None:
        """Waits until instances are known.

        Raises:
            StateUnavailable: none is there, or none answers. UsageError: all refuse.
        """
        while not self._urls:
            await asyncio.shield(self._look())

    async def ask(self, url: str | None, store: str, query: str, body: bytes | None, kind: type[T], until: float) -> T:
        """What the instance at `url` answers for a store, or any instance where that one is not known. One attempt.

        Args:
            until: by `time.monotonic()`.

        Raises:
            StateUnavailable: another may answer, or the same one later; UsageError: nobody will.
        """
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self.found()
        except TimeoutError:
            raise StateUnavailable("no instance of the app was found in time") from None
        target = f"/state/{quote(store, safe='')}?{query}"
        asked = url if url in self._urls else random.choice(self._urls)
        try:
            answer = await self._asking.ask(asked, target, body, seconds=max(LEAST_SECONDS, until - time.monotonic()))
        except StateUnavailable:
            self._forget(asked)
            raise
        if _is_strange(answer):
            self._forget(asked)
            raise StateUnavailable(_refusal(asked, answer))
        if answer.status == 503:
            self.moved()
        return _decoded(asked, answer, kind)

    def moved(self) -> None:
        """Partitions seem to move: asks who has what now. Nobody waits for that."""
        if time.monotonic() - self._looked >= AGAIN_SECONDS:
            self._look()

    def _forget(self, url: str) -> None:
        self._urls = [one for one in self._urls if one != url]
        self.moved()

    def _look(self) -> asyncio.Future[None]:
        if self._looking is None or self._looking.done():
            self._looked = time.monotonic()
            self._looking = asyncio.ensure_future(self._learn())
            self._looking.add_done_callback(_heeded)
        return self._looking

    async def _learn(self) -> None:
        if self._urls and await self._told_by(self._urls) is None:
            return
        why = await self._told_by(await asyncio.to_thread(self._find))
        if why is not None:
            raise why

    async def _told_by(self, urls: Sequence[str]) -> StateUnavailable | UsageError | None:
        """Asks them one by one until one says who has what; else, why none does: a UsageError where each of them
        refuses, and so would tomorrow."""
        refused: UsageError | None = None
        silent = (
            None
            if urls
            else StateUnavailable("no instance of the app is heard of (web and announce_interval must be on)")
        )
        for url in random.sample(urls, len(urls)):
            try:
                answer = await self._asking.ask(url, "/state", seconds=OVERVIEW_SECONDS)
                overview = _decoded(url, answer, StateOverview)
            except UsageError as error:
                refused = error
                continue
            except StateUnavailable as error:
                silent = error
                continue
            self._owners = {
                store.name: (store.partitions, {one.partition: one.url for one in store.owners if one.url is not None})
                for store in overview.stores
            }
            self._urls = list({url, *(owner for _, owners in self._owners.values() for owner in owners.values())})
            return None
        if silent is not None and refused is not None:
            return StateUnavailable(f"{silent}; {refused}")
        return silent or refused


def _heeded(looking: asyncio.Future[None]) -> None:
    """Where nobody waited, nobody is told that it failed: who asks next looks again."""
    if not looking.cancelled():
        looking.exception()


def _why(answer: Response) -> str | None:
    """What an instance says, where it does not answer; None: it is not an instance that says so."""
    try:
        return str(msgspec.json.decode(answer.body, type=dict)["error"])
    except (msgspec.MsgspecError, KeyError):
        return None


def _decoded(url: str, answer: Response, kind: type[T]) -> T:
    """Raises StateUnavailable where another may answer, or the same one later; UsageError where nobody will."""
    if answer.status == 200:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{url} does not answer as an instance of this version: {error}") from None
    if answer.status in (400, 401, 404, 413, 421):
        raise UsageError(_refusal(url, answer))
    raise StateUnavailable(_refusal(url, answer))


def _is_strange(answer: Response) -> bool:
    """Whether no instance of the app says so: one of another app, something in between, or another program."""
    return answer.status == 401 or (answer.status != 200 and _why(answer) is None)


def _refusal(url: str, answer: Response) -> str:
    if answer.status == 401:
        return f"{url} has another token, another time, or is of another app: set web_token as the instances have it"
    return f"{url}: {_why(answer) or f'it answers {answer.status}'}"
