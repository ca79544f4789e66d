"""Whatever a function of the user's raises is the failure of its record, result or timer: kstream's own errors, by
which the engine is steered, and exceptions that raise when they are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest

import kstream
from kstream.errors import AbortRequired, InstanceFenced, ProducerLost, ResultFailed, StateError
from kstream.testing import TestDriver

NOW = 1_700_000_000_000
BAD = 2


class Hostile(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError(name)

    def __str__(self) -> NoReturn:
        raise SystemExit(3)

    __repr__ = __str__


class Liar(Exception):
    @property
    def __class__(self) -> Any:
        raise SystemExit(4)


def raised_from_it() -> Exception:
    error = ValueError("bad")
    error.__cause__ = Hostile()
    return error


RAISED: dict[str, Callable[[], BaseException]] = {
    "an abort": lambda: AbortRequired("no"),
    "a lost producer": lambda: ProducerLost("no"),
    "fenced": lambda: InstanceFenced("no"),
    "damage": lambda: StateError("no"),
    "a result": lambda: ResultFailed("no"),
    "hostile": Hostile,
    "a liar": Liar,
    "from a hostile one": raised_from_it,
    "in a group": lambda: BaseExceptionGroup("g", [Hostile()]),
}


def by_map(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    app.stream(source).map(call, value=int).to(out)


def by_context(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    seen = app.table("seen", key=str, value=int, default=0)

    def mapped(n: int, ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        return call(n)

    app.stream(source).map(mapped, value=int).to(out)


def by_generator(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    @app.agent(source, to=out)
    def agent(n: int) -> Iterator[int]:
        yield call(n)


def by_async(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            await asyncio.sleep(0)
            yield call(n)


def by_fold(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    app.stream(source).group_by_key().aggregate(int, lambda _, n: call(n), name="n", emit="commit").to(out)


def by_time(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    """Behind a window that closes."""
    group = app.stream(source).group_by_key().window(kstream.Tumbling(seconds=1), grace=timedelta(0))
    results = group.aggregate(int, lambda _, n: n, name="n", emit="close").stream()
    results.map(call, value=int).rekey(str, key=str).to(out)


def by_timer(app: kstream.App, source: Any, out: Any, call: Callable[[int], int]) -> None:
    class Timed(kstream.Processor[str, int, int]):
        n = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.n.value = value
            ctx.timer(after=timedelta(seconds=1))

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(call(self.n.value))

    app.stream(source).process(Timed, name="p").to(out)


@pytest.mark.parametrize("form", [by_map, by_context, by_generator, by_async, by_fold, by_time, by_timer])
@pytest.mark.parametrize("kind", RAISED)
def test_it_is_the_failure_of_what_it_was_called_for(kind: str, form: Callable[..., None]) -> None:
    app = kstream.App("raising", on_error=[kstream.DeadLetter(), kstream.Skip(phase="timer")])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def call(n: int) -> int:
        if n == BAD:
            raise RAISED[kind]()
        return n

    form(app, source, out, call)
    driver = TestDriver(app, partitions=1)
    try:
        for n in range(4):
            driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW + n)
        driver.cluster.append("in", b"later", b"9", NOW + 60_000)
        driver.commit()
        assert {int(one.value or b"") for one in driver.cluster.records("out")} - {9} == {0, 1, 3}
        letters = driver.cluster.records("raising-dead-letters")
        assert [one.value for one in letters] == ([] if form is by_timer else [b"%d" % BAD])
        if letters:
            name = {"from a hostile one": "ValueError", "in a group": "ExceptionGroup"}.get(kind)
            stack = dict(letters[0].headers or ())["__streams.errors.stacktrace"] or b""
            assert (name or type(RAISED[kind]()).__name__).encode() in stack
    finally:
        driver.close(commit=False)


@pytest.mark.parametrize("kind", RAISED)
def test_without_a_policy_the_task_stops_and_says_why(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("raising")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def call(n: int) -> int:
        raise RAISED[kind]()

    by_map(app, source, out, call)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"k", b"1", NOW)
        with pytest.raises(kstream.KStreamError, match=r"^task in/0 stopped at in\[0\] offset 0: "):
            driver.process()
        driver.close(commit=False)
