"""Who is given a context, and which functions cannot be called as a step calls them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import kstream
from kstream.dsl.functions import kind_of, wants_context
from kstream.errors import ProcessingError, TopologyError
from kstream.specs.steps import AgentKind
from kstream.testing import TestDriver


class Callme:
    def __call__(self, value: int, ctx: Any) -> int:
        return value

    def method(self, value: int) -> int:
        return value


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda value: value, False),
        (lambda value, ctx: value, True),
        (lambda value, ctx=None: value, False),
        (lambda value, *more: value, False),
        (lambda value, **more: value, False),
        (lambda value, *, key=1: value, False),
        (Callme(), True),
        (Callme().method, False),
        (functools.partial(lambda table, value, ctx: value, 1), True),
        (str.upper, False),
        (len, False),
        (int, False),
        (dict, False),
        (print, False),
        (Mock(), False),
        (lambda *values: values, False),
        (lambda value=1: value, False),
        (lambda value=1, ctx=None: value, False),
    ],
)
def test_one_value(function: Callable[..., Any], expected: bool) -> None:
    assert wants_context(function) is expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [(lambda a, b: a, False), (lambda a, b, ctx: a, True), (max, False), (print, False), (lambda a, *b: a, False)],
)
def test_two_values(function: Callable[..., Any], expected: bool) -> None:
    assert wants_context(function, 2) is expected


@pytest.mark.parametrize("function", [lambda: 1, lambda a, b, c: 1, lambda a, b, c, *d: 1])
def test_neither(function: Callable[..., Any]) -> None:
    with pytest.raises(TopologyError, match="arguments: it should take 1, or 2 with the context last"):
        wants_context(function)


def test_a_keyword_that_nobody_will_give() -> None:
    with pytest.raises(TopologyError, match="needs the keyword argument 'rate', which is never passed"):
        wants_context(lambda value, *, rate: value)


# ---- forms


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*values: Any) -> Any:
        return function(*values)

    return inner


async def coroutine(value: Any) -> bool:
    return False


async def async_generator(value: Any) -> AsyncIterator[Any]:
    yield value


def generator(value: Any) -> Iterator[Any]:
    yield value


class AsyncCallable:
    async def __call__(self, value: Any) -> bool:
        return False

    async def method(self, value: Any) -> bool:
        return False


FORMS = [
    (len, AgentKind.FUNCTION),
    (Callme(), AgentKind.FUNCTION),
    (AsyncCallable, AgentKind.FUNCTION),
    (Mock(), AgentKind.FUNCTION),
    (generator, AgentKind.GENERATOR),
    (async_generator, AgentKind.ASYNC_GENERATOR),
    (coroutine, AgentKind.COROUTINE),
    (AsyncCallable(), AgentKind.COROUTINE),
    (AsyncCallable().method, AgentKind.COROUTINE),
    (AsyncMock(), AgentKind.COROUTINE),
    (functools.partial(coroutine), AgentKind.COROUTINE),
    (functools.partial(functools.partial(generator)), AgentKind.GENERATOR),
    (functools.partial(AsyncCallable()), AgentKind.COROUTINE),
]


@pytest.mark.parametrize(("function", "expected"), FORMS)
def test_the_form_of_a_function(function: Callable[..., Any], expected: AgentKind) -> None:
    assert kind_of(function) is expected


@pytest.mark.parametrize("function", [coroutine, async_generator, generator])
def test_a_decorator_that_passes_calls_on_is_looked_through_when_asked(function: Callable[..., Any]) -> None:
    assert kind_of(passed_on(function)) is AgentKind.FUNCTION
    assert kind_of(passed_on(passed_on(function)), decorated=True) is kind_of(function)


STEPS = ["map", "filter", "flat_map", "peek", "rekey", "group_by"]


def stream() -> Any:
    app = kstream.App("t")
    return app.stream(app.topic("in", key=str, value=int))


@pytest.mark.parametrize(
    "function", [coroutine, async_generator, AsyncCallable(), functools.partial(coroutine), AsyncMock()]
)
@pytest.mark.parametrize("step", STEPS)
def test_no_step_takes_an_async_function(step: str, function: Any) -> None:
    with pytest.raises(
        TopologyError, match=rf"^{step}\(.*\) is given an async function, .*: await in an agent"
    ) as caught:
        getattr(stream(), step)(function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", [step for step in STEPS if step != "flat_map"])
def test_only_flat_map_takes_a_generator_function(step: str) -> None:
    """A generator is true, and its body runs only when somebody asks: filter would keep all, peek do nothing."""
    stream().flat_map(generator)
    with pytest.raises(TopologyError, match=rf"^{step}\(generator\) is given a generator function: .*flat_map"):
        getattr(stream(), step)(generator)


async def two(total: int, value: int) -> int:
    return total


async def none() -> int:
    return 0


@pytest.mark.parametrize(
    "fold",
    [
        lambda group: group.sum(coroutine),
        lambda group: group.min(coroutine),
        lambda group: group.max(async_generator),
        lambda group: group.reduce(two),
        lambda group: group.aggregate(int, two),
        lambda group: group.aggregate(none, max),
        lambda group: group.sum(generator),
    ],
)
def test_no_fold_does(fold: Callable[[Any], Any]) -> None:
    with pytest.raises(TopologyError, match=r"is given an async|is given a generator"):
        fold(stream().group_by_key())


def test_nor_what_makes_defaults_and_times() -> None:
    app = kstream.App("t")
    with pytest.raises(TopologyError, match=r"table 't': default\(none\) is given an async"):
        app.table("t", key=str, value=int, default=none)
    with pytest.raises(TopologyError, match=r"topic 'in': timestamp\(coroutine\) is given an async"):
        app.topic("in", timestamp=coroutine)


@pytest.mark.parametrize(
    ("declare", "match"),
    [
        (
            lambda app: app.table("t", key=str, value=int, default=lambda key: 0),
            "takes 1 arguments: it should take none",
        ),
        (lambda app: app.stream(app.topic("in")).group_by_key().aggregate(lambda v: 0, max), "should take none"),
    ],
)
def test_what_makes_a_first_value_is_called_without_arguments(declare: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(TopologyError, match=match):
        declare(kstream.App("t"))


@pytest.mark.parametrize(
    ("declare", "match"),
    [
        (
            lambda group: group.sum(lambda value, ctx: value),
            "takes 2 arguments: it should take 1, and is given no",
        ),
        (lambda group: group.max(lambda: 1), "takes 0 arguments: it should take 1"),
        (lambda group: group.min(5), "5 is not a function"),
        (lambda group: group.reduce(lambda a, b, ctx: a), "takes 3 arguments: it should take 2"),
    ],
)
def test_only_the_fold_of_aggregate_is_given_the_context(declare: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(TopologyError, match=match):
        declare(stream().group_by_key())


@pytest.mark.parametrize("step", STEPS)
def test_a_coroutine_that_was_hidden_is_found_at_the_first_record(step: str) -> None:
    app = kstream.App("t")
    source = app.topic("in", key=str, value=int)
    made = getattr(app.stream(source), step)(passed_on(coroutine))
    if step == "group_by":
        made.count(name="n")
    with (
        TestDriver(app) as driver,
        pytest.raises(ProcessingError, match=r"coroutine.. returns a coroutine, .*: await in an agent"),
    ):
        driver.send(source, 1, key="k")
