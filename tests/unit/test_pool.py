"""Pools: bounded, lazy, given back also on failure, closed with the worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import KStreamError
from kstream.testing import TestDriver


class Client:
    made = 0

    def __init__(self) -> None:
        Client.made += 1
        self.number, self.closed, self.used = Client.made, 0, 0

    def close(self) -> None:
        self.closed += 1


class AsyncClient(Client):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


def test_lazy_reused_and_the_last_one_back_is_lent_first() -> None:
    made: list[Client] = []
    pool = kstream.Pool(lambda: made.append(Client()) or made[-1], 2)  # type: ignore[func-returns-value]
    assert made == []
    with pool.borrow() as one:
        with pool.borrow() as two:
            assert one is not two
        with pool.borrow() as again:
            assert again is two
    with pool.borrow() as last:
        assert last is one
    assert len(made) == 2


def test_it_comes_back_when_the_block_fails_and_is_closed_when_it_is_broken() -> None:
    pool = kstream.Pool(Client, 1)
    with pytest.raises(ValueError), pool.borrow() as one:
        raise ValueError
    with pytest.raises(ValueError), pool.borrow() as same:
        assert same is one
        pool.discard(same)
        raise ValueError
    assert one.closed == 1
    with pool.borrow() as other:
        assert other is not one
    with pytest.raises(KStreamError, match="is not lent"):
        pool.discard(other)


def test_a_factory_that_fails_takes_no_place() -> None:
    answers = iter([OSError("refused"), Client()])

    def make() -> Client:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    pool = kstream.Pool(make, 1)
    with pytest.raises(OSError, match="refused"), pool.borrow():
        pass
    with pool.borrow(timeout=0):
        pass


def test_it_is_bounded() -> None:
    pool = kstream.Pool(Client, 1)
    match = r"all 1 objects are lent, and none came back within 0\.01 s"
    with pool.borrow(), pytest.raises(KStreamError, match=match), pool.borrow(timeout=0.01):
        pass


def test_another_thread_waits_for_it() -> None:
    pool, got = kstream.Pool(Client, 1), threading.Event()

    def borrow() -> None:
        with pool.borrow():
            got.set()

    with pool.borrow():
        thread = threading.Thread(target=borrow)
        thread.start()
        assert not got.is_set()
    thread.join(60)
    assert got.is_set()


def test_coroutines_wait_for_it_and_are_cancelled_cleanly() -> None:
    pool = kstream.Pool(Client, 2)
    at_once = most = 0

    async def use() -> None:
        nonlocal at_once, most
        async with pool.borrow():
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1

    async def main() -> None:
        async with pool.borrow(), pool.borrow():
            waiting = asyncio.create_task(use())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(KStreamError, match="write async with, which can wait"), pool.borrow():
                pass
            with pytest.raises(KStreamError, match="none came back"):
                async with pool.borrow(timeout=0.01):
                    pass
        await asyncio.gather(*(use() for _ in range(20)))

    asyncio.run(main())
    assert most == 2
    assert repr(pool) == "Pool(size=2, free=2, lent=0)"


@given(st.integers(1, 3), st.lists(st.sampled_from(["borrow", "back", "break", "close"]), max_size=30))
def test_whatever_is_done_no_more_are_open_than_it_may_and_each_is_closed_once(size: int, steps: list[str]) -> None:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    pool, lent = kstream.Pool(make, size), []
    for step in steps:
        if step == "borrow" and len(lent) < size:
            loan = pool.borrow(timeout=0)
            lent.append((loan, loan.__enter__()))
        elif step == "close":
            asyncio.run(pool.aclose())
        elif step in ("back", "break") and lent:
            loan, client = lent.pop(0)
            assert client.closed == 0
            if step == "break":
                pool.discard(client)
            loan.__exit__(None, None, None)
        assert sum(not client.closed for client in made) <= size
        assert len({id(client) for _, client in lent}) == len(lent)
    for loan, _ in lent:
        loan.__exit__(None, None, None)
    asyncio.run(pool.aclose())
    assert all(client.closed == 1 for client in made)


def test_the_end_of_the_worker_closes_them() -> None:
    made: list[Client] = []

    def make() -> AsyncClient:
        client = AsyncClient()
        made.append(client)
        return client

    pool = kstream.Pool(make, 1)
    app = kstream.App("pools")
    topic, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    @app.agent(topic, to=out)
    async def ask(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for value in stream:
            async with pool.borrow() as client:
                client.used += 1
                yield value

    with TestDriver(app, partitions=1) as driver:
        for value in range(5):
            driver.send(topic, value, key="k")
        assert driver.values(out) == list(range(5))
        assert [client.closed for client in made] == [0]
    assert [(client.used, client.closed) for client in made] == [(5, 1)]


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_what_is_no_size(size: int) -> None:
    with pytest.raises(KStreamError, match="is not a number of objects"):
        kstream.Pool(Client, size)
