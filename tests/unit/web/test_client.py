"""Keys of several instances, one of which hangs: nobody waits for it but those who ask for its keys."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

import kstream
from kstream.codecs.keys import binary
from kstream.errors import StateUnavailable
from kstream.observe.queried import Owner, QueriedStore, StateEntries, StateEntry, StateOverview
from kstream.partitioning import partition_of
from kstream.web.asking import Response
from kstream.web.client import UNDER_WAY, AsyncQuery

app = kstream.App("shop")
words = app.topic("words", key=str, value=str)
app.stream(words).group_by_key().count(name="counts")

KEYS = [f"k{n:02}" for n in range(40)]
HUNG = [key for key in KEYS if partition_of(key.encode(), 2) == 1]
WELL = [key for key in KEYS if key not in HUNG]


class Answers:
    """Instance "well" has partition 0, and "hung", which answers nothing, partition 1. Every key there is 1."""

    def __init__(self, *_: object) -> None:
        pass

    async def ask(self, url: str, target: str, body: bytes | None = None, *, seconds: float) -> Response:
        await asyncio.sleep(0)
        if url == "hung":
            await asyncio.sleep(seconds)
            raise StateUnavailable("hung did not answer")
        told: object
        if target == "/state":
            owners = [Owner(0, "a", "well", "running"), Owner(1, "b", "hung", "running")]
            told = StateOverview("shop", "a", [QueriedStore("counts", "str", "int", "keyed", 2, owners)])
        else:
            keys = msgspec.json.decode(body or b"")["keys"]
            asked = {partition_of(binary(key, "base64url", "a key"), 2) for key in keys}
            if asked != {0}:  # it asks the other one
                await asyncio.sleep(seconds)
                raise StateUnavailable("well did not answer")
            told = StateEntries("counts", [StateEntry(key, "MQ", 0) for key in keys], [0])
        return Response(200, {}, msgspec.json.encode(told))

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kstream.web.client.Asking", Answers)


def query(timeout: float, find: Any = lambda: ["well"]) -> AsyncQuery:
    return AsyncQuery({one.name: one for part in app.topology().parts for one in part.stores}, find, b"key", timeout)


def test_keys_of_an_instance_that_hangs_take_no_slots_of_another() -> None:
    async def asked() -> None:
        async with query(60.0) as client:
            assert await client.get("counts", WELL[0]) == 1  # so that it is known who has what
            stuck = []
            for at in range(3 * UNDER_WAY):  # one by one: more requests than there are slots
                stuck.append(asyncio.ensure_future(client.get("counts", HUNG[at % len(HUNG)])))
                await asyncio.sleep(0)
            both = [asyncio.ensure_future(client.get("counts", key)) for key in KEYS]
            async with asyncio.timeout(20.0):
                assert await asyncio.gather(*(one for one, key in zip(both, KEYS, strict=True) if key in WELL))
                for _ in range(20):
                    assert await client.get("counts", WELL[0]) == 1
            stuck += [one for one, key in zip(both, KEYS, strict=True) if key in HUNG]
            assert not any(one.done() for one in stuck)
            for one in stuck:
                one.cancel()

    asyncio.run(asked())


def test_a_get_ends_with_its_timeout_whoever_hangs() -> None:
    late = threading.Event()

    def slow() -> list[str]:
        late.wait(60)
        return ["well"]

    async def asked() -> None:
        async with query(1.0) as client:
            assert await client.get("counts", WELL[0]) == 1
            began = time.monotonic()
            for failed in await asyncio.gather(*(client.get("counts", key) for key in HUNG), return_exceptions=True):
                assert isinstance(failed, StateUnavailable)
            with pytest.raises(StateUnavailable, match=f"{len(HUNG)} of {len(KEYS)} keys") as caught:
                await client.get_many("counts", KEYS)
            assert caught.value.found == dict.fromkeys(WELL, 1) and caught.value.keys == HUNG
            assert 1.9 < time.monotonic() - began < 30
        async with query(0.1, slow) as client:
            began = time.monotonic()
            with pytest.raises(StateUnavailable, match=r"no answer within 0\.1 s"):
                await client.get("counts", WELL[0])
            assert time.monotonic() - began < 30
            late.set()

    asyncio.run(asked())
