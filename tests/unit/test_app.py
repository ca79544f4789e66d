"""What an app refuses of itself: its lifespan, its name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError
from kstream.testing import TestDriver

# ---- the lifespan


def plain(worker: kstream.Worker) -> None: ...


def generator(worker: kstream.Worker) -> Iterator[None]:
    yield


async def coroutine(worker: kstream.Worker) -> None: ...


@contextlib.asynccontextmanager
async def managed(worker: kstream.Worker) -> AsyncIterator[None]:
    yield


class Manager:
    def __init__(self, worker: kstream.Worker) -> None: ...
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


async def without_worker() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (plain, "plain.* is a plain function"),
        (generator, "generator.* is a generator function"),
        (coroutine, "coroutine.* is an async function without a yield"),
        (managed, "managed.* is a context manager: leave @asynccontextmanager out"),
        (Manager, "Manager.* is a class"),
        (5, "5 is not a function"),
    ],
)
def test_a_lifespan_is_an_async_generator(function: Any, match: str) -> None:
    app = kstream.App("lives")
    with pytest.raises(TopologyError, match=f"app 'lives': {match}.*write async def f\\(worker\\): .*; yield; "):
        app.lifespan(function)
    assert app.lifespan_function is None


def test_a_lifespan_takes_the_worker() -> None:
    function: Any = without_worker
    with pytest.raises(TopologyError, match=r"without_worker\(\) takes 0 arguments: it should take 1"):
        kstream.App("lives").lifespan(function)


async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
    worker.state.number = 5
    yield


class Resources:
    async def __call__(self, worker: kstream.Worker) -> AsyncIterator[None]:
        worker.state.number = 5
        yield


async def scaled(factor: int, worker: kstream.Worker) -> AsyncIterator[None]:
    worker.state.number = 5 * factor
    yield


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments)

    return inner


@pytest.mark.parametrize("function", [resources, Resources(), functools.partial(scaled, 1), passed_on(resources)])
def test_whatever_gives_one(function: Any) -> None:
    app = kstream.App("lives")
    read, written = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.lifespan(function)
    app.agent(read, to=written, name="a")(lambda value, ctx: value + ctx.worker.state.number)
    with TestDriver(app) as driver:
        driver.send(read, 1, key="k")
        assert driver.values(written) == [6]
