"""Who is asked for what of the committed state: this instance's workers, and the app's other instances.

Another instance is asked over HTTP, and signed (signing.py); it answers for itself only, so nothing goes round in
circles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from kstream.codecs.keys import binary
from kstream.errors import StateUnavailable, UsageError
from kstream.observe.queried import StateEntries, StateEntry, StatePage
from kstream.observe.status import InstanceStatus
from kstream.runtime.process.questions import ANSWER_BYTES
from kstream.runtime.view.queries import Answered, Queries, Served
from kstream.web.asking import Asking
from kstream.web.forms import place_of, text

OTHER_SECONDS: Final = 6.0
"""For an answer of another instance."""


class Part(NamedTuple):
    """Entries of one partition: keys, values, bytes of those values that are too large (these are empty), and the last
    key that was looked at, where there are more behind it."""

    keys: list[bytes]
    values: list[bytes]
    too_large: Mapping[bytes, int]
    after: bytes | None


class Finding:
    """Answers for all instances; belongs to the event loop of the web server."""

    def __init__(self, queries: Queries, asking: Asking) -> None:
        self._queries, self._asking = queries, asking

    async def find(self, store: Served, keys: Sequence[bytes], partition: int | None, *, here: bool) -> Answered:
        """Looks for keys. Where it lies in a partition that nobody can be asked for, a key is not simply missing: it is
        `unavailable`, and no other is because of it.

        Args:
            partition: only this one; `here`: only what this instance has.

        Raises:
            UsageError: the store may have a key in each of its partitions, and none is said.
        """
        queries, answered = self._queries, Answered()
        if here:
            answered = await queries.look_up(store, keys, range(store.partitions) if partition is None else [partition])
            for why in answered.unasked.values():
                answered.unavailable.update(dict.fromkeys(answered.missing(keys), why))
            return answered
        if partition is None and store.spec.scope == "partition":
            raise UsageError(
                f"store {store.spec.name} may have a key in each of its {store.partitions} partitions: say which, "
                "?partition=NUMBER"
            )
        homes: dict[int, list[bytes]] = {}
        for key in keys:
            homes.setdefault(store.home(key) if partition is None else partition, []).append(key)
        if len(homes) == 1:
            ((at, of_it),) = homes.items()
            answered.add(await self._look_at(store, at, of_it, ANSWER_BYTES))
        else:
            most = ANSWER_BYTES // max(1, len(homes))
            for found in await asyncio.gather(*(self._look_at(store, *home, most) for home in homes.items())):
                answered.add(found)
        if missing := answered.missing(keys):
            if partition is None and not store.exact:
                await self._look_everywhere(store, missing, answered)
                homes = dict.fromkeys(range(store.partitions), missing)
            for at in [at for at in homes if at not in answered.looked]:
                why = answered.unasked.get(at) or str(queries.nobody(store, at))
                answered.unavailable.update(dict.fromkeys(answered.missing(homes[at]), why))
        return answered

    async def _look_at(self, store: Served, partition: int, keys: Sequence[bytes], most: int) -> Answered:
        """One partition, here or in the instance that has it."""
        task = store.task(partition)
        if self._queries.worker_of(task) is not None:
            return await self._queries.look_up(store, keys, [partition], most)
        if (other := self._queries.elsewhere(task)) is not None and other[1].state == "running":
            return await self._ask_other(other[0], [partition], store, keys)
        return Answered()

    async def _look_everywhere(self, store: Served, keys: Sequence[bytes], into: Answered) -> None:
        """All partitions that are not looked at yet, an instance at a time asked once."""
        rest = [partition for partition in range(store.partitions) if partition not in into.looked]
        others: dict[str, tuple[InstanceStatus, list[int]]] = {}
        here = []
        for partition in rest:
            task = store.task(partition)
            if self._queries.worker_of(task) is not None:
                here.append(partition)
            elif (other := self._queries.elsewhere(task)) is not None:
                others.setdefault(other[0].instance, (other[0], []))[1].append(partition)
        asked: list[Awaitable[Answered]] = [self._queries.look_up(store, keys, here)] if here else []
        asked += [self._ask_other(*other, store, keys) for other in others.values()]
        for found in await asyncio.gather(*asked):
            into.add(found)
        into.left -= into.found.keys()  # one had no room for it, another has it

    async def part(
        self, store: Served, partition: int, start: bytes, stop: bytes | None, limit: int, *, here: bool
    ) -> Part:
        """Entries of a range in one partition. Raises StateUnavailable where nobody can be asked for it."""
        result = await self._queries.page(store, partition, start, stop, limit)
        if result is not None:
            return Part(result.keys, result.values, result.too_large, result.after if result.more else None)
        other = self._queries.elsewhere(store.task(partition))
        if here or other is None or other[1].state != "running":
            raise self._queries.nobody(store, partition)
        given = {"partition": str(partition), "limit": str(limit), "from": text(start)}
        if stop is not None:
            given["to"] = text(stop)
        page: StatePage = await self._other(other[0], store, given, None, StatePage)
        entries, too_large = _read(page.entries)
        after = None if page.cursor is None else place_of(page.cursor)[1]
        return Part(list(entries), [value for value, _ in entries.values()], too_large, after)

    async def _ask_other(
        self, other: InstanceStatus, partitions: Sequence[int], store: Served, keys: Sequence[bytes]
    ) -> Answered:
        """What another instance found; it is asked for one of its partitions, or for all."""
        given = {"partition": str(partitions[0])} if len(partitions) == 1 else {}
        body = msgspec.json.encode({"keys": list(map(text, keys))})
        try:
            told: StateEntries = await self._other(other, store, given, body, StateEntries)
        except StateUnavailable as error:
            return Answered(unasked=dict.fromkeys(partitions, str(error)))
        found, too_large = _read(told.entries)
        left = {binary(key, "base64url", "a key") for key in told.left}
        answered = Answered(found, set(told.partitions), too_large, left)
        for one in told.unavailable:
            why = f"instance {other.instance} was asked: {one.why}"
            answered.unasked.update((at, why) for at in partitions if at not in answered.looked)
        return answered

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
        if answer.status == 401:
            why = "it has another token, another time, or is of another app: set the same web_token for all instances"
        raise StateUnavailable(f"instance {other.instance} was asked: {why}")


def _read(entries: Iterable[StateEntry]) -> tuple[dict[bytes, tuple[bytes, int]], dict[bytes, int]]:
    """Entries in raw form: value and partition by key, and bytes of the values that are too large."""
    found: dict[bytes, tuple[bytes, int]] = {}
    too_large = {}
    for one in entries:
        key = binary(one.key, "base64url", "a key")
        found[key] = b"" if one.value is None else binary(one.value, "base64url", "a value"), one.partition
        if one.too_large is not None:
            too_large[key] = one.too_large
    return found, too_large
