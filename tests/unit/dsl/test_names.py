"""What functions are called in names and messages: the same in every process."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import Mock

import pytest

import kstream
from kstream.dsl.functions import name_of


class Shout:
    def __call__(self, value: str) -> str:
        return value.upper()

    async def run(self, stream: kstream.AgentStream[str, str]) -> AsyncIterator[str]:
        async for value in stream:
            yield value


def join(more: str, value: str) -> str:
    return value + more


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (join, "join"),
        (functools.partial(join, "!"), "join"),
        (functools.partial(functools.partial(join), "!"), "join"),
        (functools.partial(Shout()), "Shout"),
        (Shout(), "Shout"),
        (Shout().run, "run"),
        (Shout, "Shout"),
        (Mock(), "Mock"),
        (print, "print"),
    ],
)
def test_no_address_is_part_of_a_name(function: Any, name: str) -> None:
    assert name_of(function) == name


def test_agents_of_partials_and_objects_have_names_that_stay() -> None:
    app = kstream.App("names")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    assert app.agent(source, to=out)(functools.partial(join, "!")).name == "join"
    assert app.agent(source, to=out)(Shout()).name == "Shout"
    assert " at 0x" not in app.topology().describe()
