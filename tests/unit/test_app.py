"""What an app refuses to declare: lifespans, numbers of partitions, settings of topics."""

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


# ---- topics


@pytest.mark.parametrize("count", [0, -1, 2.5, "4", True])
def test_numbers_of_partitions_that_cannot_be(count: Any) -> None:
    app = kstream.App("counts")
    with pytest.raises(
        TopologyError, match=f"topic 'in': partitions={count!r} is not a number of partitions, 1 or more"
    ):
        app.topic("in", partitions=count)
    stream = app.stream(app.topic("fine"))
    with pytest.raises(TopologyError, match=f"group 'g': parallelism={count!r} is not a number of partitions"):
        stream.group_by(len, key=int, name="g", parallelism=count)
    with pytest.raises(TopologyError, match="group 'g': parallelism="):
        stream.rekey(len, key=int).group_by_key(name="g", parallelism=count)


@pytest.mark.parametrize("config", [{"retention.ms": -1}, {5: "x"}])
def test_settings_of_topics_are_text(config: Any) -> None:
    with pytest.raises(TopologyError, match=r"topic 'in': config=\{.*\}: Kafka's settings and their values are text"):
        kstream.App("settings").topic("in", config=config)


@pytest.mark.parametrize("of_its_own", [True, False])
def test_a_table_of_another_app_is_refused(of_its_own: bool) -> None:
    one, other = kstream.App("one"), kstream.App("other")
    tables = [app.table("t", key=str, value=int) for app in ((one, other) if of_its_own else (other,))]
    with pytest.raises(TopologyError, match="'a' uses the table 't' of another app: each app has tables of its own"):
        one.agent(one.topic("in"), tables=tables, name="a")(print)


@pytest.mark.parametrize("default", ["x", 5.5, True], ids=["text", "float", "bool"])
def test_a_default_that_is_no_value_of_the_table_is_refused(default: object) -> None:
    with pytest.raises(TopologyError, match=r"table 'counts': default=.* is no int: "):
        kstream.App("shop").table("counts", key=str, value=int, default=default)


def test_topic_settings_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(TopologyError, match="table 'counts': changelog=5: Kafka's settings and their values are text"):
        kstream.App("shop").table("counts", key=str, value=int, changelog=5)  # type: ignore[call-overload]
    with pytest.raises(TopologyError, match="topic 'in': config=5: Kafka's settings and their values are text"):
        kstream.App("shop").topic("in", config=5)  # type: ignore[call-overload]
