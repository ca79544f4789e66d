"""A processor that cannot be made is refused where it is declared."""

from __future__ import annotations

import abc
import functools
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError


class Named(kstream.Processor[str, str, str]):
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def process(self, value: str, ctx: Any) -> None:
        ctx.emit(self.prefix + value)


class Short(kstream.Processor[str, str, str]):
    def process(self, value: str) -> None: ...  # type: ignore[override]


class ShortTimer(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: Any) -> None: ...

    def on_timer(self, ctx: Any) -> None: ...  # type: ignore[override]


class ShortOpen(kstream.Processor[str, str, str]):
    def open(self) -> None: ...  # type: ignore[override]

    def process(self, value: str, ctx: Any) -> None: ...


class LongClose(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: Any) -> None: ...

    def close(self, ctx: Any) -> None: ...  # type: ignore[override]


class Abstract(kstream.Processor[str, str, str], abc.ABC):
    @abc.abstractmethod
    def missing(self) -> None: ...

    def process(self, value: str, ctx: Any) -> None: ...


def with_suffix(method: Any) -> Any:
    @functools.wraps(method)
    def process(self: Any, value: str, ctx: Any) -> None:
        method(self, value, ctx, "!")

    return process


class Decorated(kstream.Processor[str, str, str]):
    """Its decorator gives what `process` takes besides."""

    @with_suffix
    def process(self, value: str, ctx: Any, suffix: str) -> None:  # type: ignore[override]
        ctx.emit(value + suffix)


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (Named, "Named: missing a required argument: 'prefix'.*functools.partial"),
        (functools.partial(Named, wrong=1), "Named: .*argument.*functools.partial"),
        (Short, r"Short\.process\(\) takes other arguments than it is given: write def process\(self, value, ctx\)"),
        (ShortTimer, r".*write def on_timer\(self, timer, ctx\)"),
        (ShortOpen, r".*write def open\(self, ctx\)"),
        (LongClose, r".*write def close\(self\)"),
        (Abstract, "Abstract is abstract, define missing in it"),
    ],
)
def test_what_cannot_be_made_is_refused(processor: Any, said: str) -> None:
    app = kstream.App("made")
    source = app.stream(app.topic("in", key=str, value=str))
    with pytest.raises(TopologyError, match=f"processor 'p' cannot be made: {said}"):
        source.process(processor, name="p")


def test_what_can_be_made_is_not() -> None:
    app = kstream.App("made")
    source = app.stream(app.topic("in", key=str, value=str))
    source.process(functools.partial(Named, "a"), name="p")
    source.process(functools.partial(Named, prefix="a"), name="q")
    source.process(Decorated, name="r")
