"""Operators hand batches on; where state is kept further on, children share no objects."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import ProcessingError
from kstream.testing import TestDriver


class Box(msgspec.Struct):
    n: int


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("poll", [1, 3])
def test_an_object_kept_as_state_and_changed_later_does_not_show_in_a_sibling(poll: int, mapped: bool) -> None:
    app = kstream.App("kept")
    source, out = app.topic("in", key=str, value=Box), app.topic("out", key=str, value=int)
    table = app.table("kept", key=str, value=Box)
    stream = app.stream(source)
    if mapped:
        stream = stream.map(lambda box: Box(box.n), value=Box)

    @app.agent(stream)
    def keep(box: Box, ctx: kstream.Context[str]) -> None:
        kept = table.get(ctx.key)
        if kept is None:
            kept = box  # the record's own object becomes the state
        else:
            kept.n += box.n
        table[ctx.key] = kept

    @app.agent(stream, to=out)
    def look(box: Box) -> int:
        return box.n

    with TestDriver(app, partitions=1) as d:
        d.cluster.batch_sizes = iter([poll] * 9)
        for n in (1, 2, 3):
            d.cluster.append("in", b"k", b'{"n":%d}' % n)
        assert d.values(out) == [1, 2, 3]
        assert d.table(table)["k"] == Box(6)


class Inner(BaseException):
    """Neither an Exception nor an end of the program, as trio's and pytest's are."""


RAISED = [asyncio.CancelledError("cut"), GeneratorExit(), Inner("own"), BaseExceptionGroup("two", [SystemExit(1)])]


def steps(raise_it: Callable[[int], int]) -> dict[str, Callable[[kstream.App, Any, Any], object]]:
    """Places in which user code runs, by name: each passes the value on, as often as it comes."""

    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            yield raise_it(n)

    def generator(n: int) -> Iterator[int]:
        yield raise_it(n)

    def fold(total: int, n: int) -> int:
        return raise_it(n)

    class Lines(kstream.BatchingSink):
        async def write(self, batch: Sequence[kstream.SinkRecord[str, int]]) -> None:
            for record in batch:
                raise_it(record.value)

    def sink(app: kstream.App, source: Any, out: Any) -> None:
        app.stream(source).to(out)
        app.stream(source).sink(Lines())

    return {
        "map": lambda app, source, out: app.stream(source).map(raise_it, value=int).to(out),
        "agent": lambda app, source, out: app.agent(source, to=out)(raise_it),
        "generator": lambda app, source, out: app.agent(source, to=out)(generator),
        "async": lambda app, source, out: app.agent(source, to=out)(agent),
        "fold": lambda app, source, out: app.stream(source).group_by_key().aggregate(int, fold, name="a").to(out),
        "sink": sink,
    }


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["map", "agent", "generator", "async", "fold", "sink"])
def test_whatever_user_code_raises_fails_its_record_and_no_other(where: str, error: BaseException) -> None:
    """Let through, it ends the worker with all of its tasks, at each of its starts."""

    def raise_it(n: int) -> int:
        if n == 2:
            raise error
        return n

    app = kstream.App("raises")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    steps(raise_it)[where](app, source, out)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2, 3):
            driver.cluster.append(source.name, b"k", b"%d" % n)
        with pytest.raises(ProcessingError, match="offset 1") as caught:
            driver.commit()
        assert type(error).__name__ in str(caught.value)
        assert [record.value for record in driver.cluster.records("out")] == [b"1"]
        driver.close(commit=False)


class Numbers:
    """A codec of the user's that may leave, and a type's default, a key and a time that do so too."""

    def __init__(self, leave: Callable[[int], int]) -> None:
        self.leave = leave

    def encode(self, value: int) -> bytes:
        return b"%d" % self.leave(value)

    def decode(self, data: bytes) -> int:
        return self.leave(int(data))


def leaves_in(place: str, leave: Callable[[int], int]) -> tuple[kstream.App, kstream.Topic[str, int]]:
    app = kstream.App("leaves")
    source = app.topic(
        "in", key=str, value=Numbers(leave) if place == "decode" else int, partitions=1,
        timestamp=leave if place == "timestamp=" else None,
    )  # fmt: skip
    out = app.topic("out", key=str, value=Numbers(leave) if place == "encode" else int, partitions=1)
    stream = app.stream(source)
    if place == "group_by":
        counts = stream.group_by(lambda n: str(leave(n)), key=str).count(name="counts")
        counts.to(app.topic("counted", key=str, value=int))
    elif place == "rekey":
        stream = stream.rekey(lambda n: str(leave(n)), key=str)
    elif place == "default":
        at = [0]
        table = app.table("seen", key=str, value=int, default=lambda: leave(at[0]))

        def seen(n: int) -> int:
            at[0] = n
            table[str(n)] += 1
            return n

        stream = stream.map(seen, value=int)
    elif place in ("decode", "encode"):
        stream = stream.map(lambda n: n, value=out.value.codec if place == "encode" else int)
    stream.to(out)
    return app, source


@pytest.mark.parametrize("code", [0, 1, "enough"])
@pytest.mark.parametrize("place", ["group_by", "rekey", "timestamp=", "default", "decode", "encode"])
def test_what_leaves_fails_its_record_wherever_it_does(place: str, code: Any) -> None:
    def leave(n: int) -> int:
        if n == 2:
            sys.exit(code)
        return n

    app, source = leaves_in(place, leave)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2, 3):
            driver.cluster.append(source.name, b"k", b"%d" % n)
        with pytest.raises(ProcessingError, match=r"in\[0\] offset 1: ") as caught:
            driver.commit()
        assert "SystemExit" in str(caught.value) and str(code) in str(caught.value)
        assert place != "timestamp=" or "timestamp= of topic 'in'" in str(caught.value)
        assert [record.value for record in driver.cluster.records("out")] == [b"1"]
        driver.close(commit=False)
