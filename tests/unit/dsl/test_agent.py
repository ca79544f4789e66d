"""Which functions can be agents, and how those are refused that cannot."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError, TopologyError
from kstream.testing import TestDriver

app = kstream.App("agents")
source = app.topic("in", key=str, value=int)
out = app.topic("out", key=str, value=int)


def refused(match: str, declare: Callable[[], Any]) -> None:
    with pytest.raises(TopologyError, match=match) as caught:
        declare()
    assert "\n" not in str(caught.value)


# ---- the decorator


def test_a_decorator_without_parentheses() -> None:
    async def forgotten(stream: Any) -> None: ...

    decorator: Any = app.agent
    refused(r"@app\.agent needs what 'forgotten' reads: write @app\.agent\(topic\)", lambda: decorator(forgotten))


@pytest.mark.parametrize("read", [5, None, "in", app])
def test_what_cannot_be_read_is_refused_before_there_is_a_function(read: Any) -> None:
    refused("an agent reads a topic, a stream or a group, not ", lambda: app.agent(read))


def test_a_table_of_an_aggregation_is_read_as_a_stream() -> None:
    table: Any = app.stream(source).group_by_key().count(name="n")
    refused(r"not AggregateTable\('n'.*: stream\(\) gives its changes", lambda: app.agent(table))


def test_names_are_neither_topics_nor_tables() -> None:
    name: Any = "in"
    refused(
        r"app\.stream takes a topic, not 'in': give it what app\.topic\('in', \.\.\.\) returned",
        lambda: app.stream(name),
    )
    refused("to takes a topic, not 'in'", lambda: app.stream(source).to(name))
    refused("agent 'a': to takes a topic, not 'in'", lambda: app.agent(source, to=name, name="a")(lambda value: value))
    refused("agent 'a': tables='in': give a list of tables", lambda: app.agent(source, tables=name, name="a")(print))
    table: Any = app.table("no-topic", key=str, value=int)
    refused(r"app\.stream takes a topic, not Table\('no-topic'.*: give it what app\.topic", lambda: app.stream(table))


def test_a_function_is_wanted() -> None:
    thing: Any = 5
    refused("agent 'a': 5 is not a function", lambda: app.agent(source, name="a")(thing))


# ---- async functions over a value instead of the stream


async def enrich(order: Any) -> int:
    return int(order) + 1


async def of_a_value(order: int) -> None: ...


async def yields_of_a_value(order: int) -> AsyncIterator[int]:
    yield order


async def without_annotations(order):  # type: ignore[no-untyped-def]
    return order


class Enricher:
    async def __call__(self, order: int) -> None: ...


WRITE = r"write async def .*\(stream\): async for value in stream: \.\.\."


def test_an_async_function_that_returns_something() -> None:
    refused(
        f"agent 'enrich' is an async function of one value.* returns int, .*: {WRITE}",
        lambda: app.agent(source)(enrich),
    )
    refused("agent 'enrich' .* returns int", lambda: app.agent(source, to=out)(enrich))


@pytest.mark.parametrize("function", [of_a_value, yields_of_a_value, Enricher(), functools.partial(of_a_value)])
def test_an_async_function_that_takes_a_value(function: Any) -> None:
    refused(f"agent 'a' .* takes int, .*: {WRITE}", lambda: app.agent(source, name="a")(function))


def test_an_async_function_that_can_put_nothing_out() -> None:
    refused(f"agent 'without_annotations' .* to=.*: {WRITE}", lambda: app.agent(source, to=out)(without_annotations))


def test_a_function_that_takes_the_stream_is_async() -> None:
    def plain(stream: kstream.AgentStream[str, int]) -> None: ...

    refused("agent 'plain' takes the stream, so it is async: write async def plain", lambda: app.agent(source)(plain))


async def typed(stream: kstream.AgentStream[str, int]) -> None: ...
async def bare(stream: kstream.AgentStream) -> None: ...  # type: ignore[type-arg]
async def iterable(stream: AsyncIterable[int]) -> None: ...
async def anything(stream: Any) -> None: ...
async def unannotated(stream): ...  # type: ignore[no-untyped-def]
async def optional(stream: kstream.AgentStream[str, int] | None) -> None: ...
async def unresolved(stream: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
async def gives_anything(stream: Any) -> Any: ...
async def with_context(stream: Any, ctx: kstream.Context[str]) -> None: ...


@pytest.mark.parametrize(
    "function",
    [typed, bare, iterable, anything, unannotated, optional, unresolved, gives_anything, with_context],
)
def test_what_may_take_the_stream_passes(function: Any) -> None:
    own = kstream.App("t")
    own.agent(own.topic("in", key=str, value=int))(function)


def test_a_class_is_a_function_of_a_value() -> None:
    own = kstream.App("t")
    read, written = own.topic("in", key=str, value=int), own.topic("out", key=str, value=str)
    own.agent(read, to=written)(str)
    with TestDriver(own) as driver:
        driver.send(read, 1, key="k")
        assert driver.values(written) == ["1"]


# ---- decorators


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments)

    return inner


async def copy(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
    async for value in stream:
        yield value


def twice(value: int) -> Iterator[int]:
    yield value
    yield value


def plus(value: int, ctx: kstream.Context[str]) -> int:
    return value + len(ctx.key)


@pytest.mark.parametrize(("function", "expected"), [(copy, [1]), (twice, [1, 1]), (plus, [2])])
@pytest.mark.parametrize("times", [1, 2])
def test_a_decorated_function_is_what_it_was(function: Any, expected: list[int], times: int) -> None:
    for _ in range(times):
        function = logged(function)
    own = kstream.App("t")
    read, written = own.topic("in", key=str, value=int), own.topic("out", key=str, value=int)
    own.agent(read, to=written)(function)
    with TestDriver(own) as driver:
        driver.send(read, 1, key="k")
        assert driver.values(written) == expected


def test_a_coroutine_that_a_decorator_makes_a_plain_function_of() -> None:
    """As asgiref's `async_to_sync`: what is behind the decorator takes a value, so the decorator waits for it."""

    def waited_for(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(value: int) -> int:
            with contextlib.suppress(StopIteration):
                function(value).send(None)
            return value

        return inner

    own = kstream.App("t")
    read, written = own.topic("in", key=str, value=int), own.topic("out", key=str, value=int)
    own.agent(read, to=written)(waited_for(of_a_value))
    with TestDriver(own) as driver:
        driver.send(read, 1, key="k")
        assert driver.values(written) == [1]


@pytest.mark.parametrize("how", ["read", "get", "in", "write", "delete"])
def test_a_key_that_has_no_form_as_utf_8_names_its_table(how: str) -> None:
    app = kstream.App("surrogates")
    source, table = app.topic("in", key=str, value=int), app.table("seen", key=str, value=int, scope="partition")

    @app.agent(source)
    def use(value: int) -> None:
        key = "a\ud800"
        if how == "read":
            table[key]
        elif how == "get":
            table.get(key)
        elif how == "in":
            _ = key in table
        elif how == "write":
            table[key] = value
        else:
            del table[key]

    with TestDriver(app) as d, pytest.raises(ProcessingError, match=r"'a\\ud800' cannot be a key of table 'seen'"):
        d.send(source, 1, key="k")
