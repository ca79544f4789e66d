"""Who is given a context: a function that has one more parameter than it has values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from kstream.dsl.functions import wants_context
from kstream.errors import TopologyError


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
    ],
)
def test_one_value(function: Callable[..., Any], expected: bool) -> None:
    assert wants_context(function) is expected


@pytest.mark.parametrize(("function", "expected"), [(lambda a, b: a, False), (lambda a, b, ctx: a, True), (max, False)])
def test_two_values(function: Callable[..., Any], expected: bool) -> None:
    assert wants_context(function, 2) is expected


@pytest.mark.parametrize("function", [lambda: 1, lambda a, b, c: 1])
def test_neither(function: Callable[..., Any]) -> None:
    with pytest.raises(TopologyError, match="arguments: it should take 1, or 2 with the context last"):
        wants_context(function)
