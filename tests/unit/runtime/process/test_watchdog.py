"""What a watchdog reads off the stack of a worker whose loop stands."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.runtime.process.report import Held
from kstream.runtime.process.watchdog import STANDS_SECONDS, Watchdog, held_in
from unit.runtime.harness import Fleet

HERE = Path(__file__).name


def held(app: kstream.App, seen: list[Held], directory: Path) -> Held:
    """What was seen in the worker's code while a record was processed."""
    fleet = Fleet(app, directory, partitions=1)
    try:
        fleet.start("a")
        topic = next(iter(app.topology().parts[0].sources)).topic
        fleet.send(topic, ["k"])
        fleet.settle()
    finally:
        fleet.close()
    return seen[0]


@pytest.fixture
def seen() -> list[Held]:
    return []


@pytest.fixture
def look(seen: list[Held]) -> Callable[[], None]:
    """Looks at the thread that calls it, as from outside."""
    now = [0.0]
    watchdog = Watchdog(lambda: 0.0, seen.append, lambda: now[0])
    watchdog.look()
    assert seen == [], "the loop has just turned"
    now[0] = STANDS_SECONDS + 3
    return watchdog.look


def test_a_function_is_named_with_its_line_and_its_task(
    look: Callable[[], None], seen: list[Held], tmp_path: Path
) -> None:
    def helper() -> None:
        look()

    def price(value: int) -> int:
        helper()
        return value

    app = kstream.App("slow")
    app.stream(app.topic("in", key=str, value=int)).map(price).to(app.topic("out", key=str, value=int))
    line = price.__code__.co_firstlineno + 1
    found = held(app, seen, tmp_path)
    assert found.where.endswith(f"<locals>.price ({HERE}, line {line})") and found.user
    assert (found.task, found.seconds) == ("in/0", STANDS_SECONDS + 3)
    assert found.record == "in[0] offset 0"


def test_an_async_agent_is_named_with_its_task(look: Callable[[], None], seen: list[Held], tmp_path: Path) -> None:
    app = kstream.App("slow")

    @app.agent(app.topic("in", key=str, value=int))
    async def watch(stream: kstream.AgentStream[str, int]) -> AsyncIterator[None]:
        async for _ in stream:
            look()
            yield

    found = held(app, seen, tmp_path)
    assert "watch (" in found.where and found.user
    assert (found.task, found.record) == ("in/0", "in[0] offset 0")


def test_what_an_agent_left_running_belongs_to_no_task(
    look: Callable[[], None], seen: list[Held], tmp_path: Path
) -> None:
    app = kstream.App("slow")

    async def background() -> None:
        look()

    @app.agent(app.topic("in", key=str, value=int))
    async def watch(stream: kstream.AgentStream[str, int]) -> AsyncIterator[None]:
        async for _ in stream:
            await asyncio.create_task(background())
            yield

    found = held(app, seen, tmp_path)
    assert "background (" in found.where and found.user and found.task is None


def test_kstreams_own_waiting_is_not_the_users() -> None:
    """A function as if it were kstream's, on a thread that nobody else has frames in."""
    scope: dict[str, Any] = {"look": lambda: found.append(held_in(sys._getframe(1), 2.0))}
    exec(compile("def commit():\n    look()", kstream.__file__, "exec"), scope)
    found: list[Held] = []
    thread = threading.Thread(target=scope["commit"])
    thread.start()
    thread.join()
    assert found == [Held(2.0, "commit (__init__.py, line 2)", None, user=False)]


def test_it_looks_by_itself_until_it_is_stopped() -> None:
    told = threading.Event()
    watchdog = Watchdog(lambda: 0.0, lambda _: told.set(), lambda: 10.0)
    watchdog.start()
    try:
        assert told.wait(30.0)
    finally:
        watchdog.stop()
