"""Calls from where an event loop runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kstream.aside import Aside


@pytest.fixture
def aside() -> Iterator[Aside]:
    made = Aside()
    yield made
    made.close()


async def two() -> int:
    return 2


def test_without_a_loop_a_call_is_made_here(aside: Aside) -> None:
    assert aside.call(threading.get_ident) == threading.get_ident()


def test_within_a_loop_calls_are_made_on_one_thread_beside_it(aside: Aside) -> None:
    async def main() -> set[int]:
        assert aside.call(lambda: asyncio.run(two())) == 2
        return {aside.call(threading.get_ident) for _ in range(3)}

    found = asyncio.run(main())
    assert len(found) == 1 and threading.get_ident() not in found
    assert {aside.call(threading.get_ident)} == found  # and stay there


def test_a_call_within_a_call_is_made_at_once(aside: Aside) -> None:
    async def main() -> int:
        return aside.call(lambda: aside.call(lambda: 3))

    assert asyncio.run(asyncio.wait_for(main(), 10)) == 3


def test_what_a_call_raises_is_raised(aside: Aside) -> None:
    async def main() -> None:
        aside.call(lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
