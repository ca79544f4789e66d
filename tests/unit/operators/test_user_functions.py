"""Whatever a user's function raises fails its record, in each place from which one is called, and no other record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import KStreamError, ProcessingError, TopologyError
from kstream.testing import TestDriver
from kstream.types import TopicPartition

SECOND = timedelta(seconds=1)
NONE = timedelta(0)


class Own(BaseException):
    """Of a library that does not want to be caught."""


Leave = Callable[[int], int]
Use = Callable[["kstream.App", Any, Leave], Any]


def folding(leave: Leave) -> Callable[[int, int], int]:
    def fold(total: int, n: int) -> int:
        return total + leave(n)

    return fold


def true_of(leave: Leave) -> Callable[[int], bool]:
    return lambda n: leave(n) > 0


def processor(leave: Leave, *, fold: bool) -> type[Any]:
    class Passes(kstream.Processor[str, int, int]):
        total = kstream.ReducingState(int, folding(leave))

        def process(self, n: int, ctx: kstream.ProcessorContext[str, int]) -> None:
            if fold:
                self.total.add(n)
            ctx.emit(n if fold else leave(n))

    return Passes


def joined(app: kstream.App, source: Any, leave: Leave) -> Any:
    table = app.stream(app.topic("rows", key=str, value=int, partitions=1)).to_table("rows")
    return app.stream(source).join(table, lambda n, row: leave(n), how="left", value=int)


def chosen(app: kstream.App, source: Any, leave: Leave) -> None:
    out = app.topic("out", key=str, value=int)
    app.stream(source).to(lambda n: [out][leave(n) - n])


def grouped(app: kstream.App, source: Any) -> Any:
    return app.stream(source).group_by_key()


def windowed(windows: Any, **more: Any) -> Use:
    def use(app: kstream.App, source: Any, leave: Leave) -> Any:
        found = grouped(app, source).window(windows, grace=NONE)
        return found.aggregate(int, folding(leave), name="a", **more)

    return use


def table(app: kstream.App, source: Any) -> Any:
    return app.stream(source).to_table("t")


USES: dict[str, Use] = {
    "filter": lambda app, source, leave: app.stream(source).filter(true_of(leave)),
    "peek": lambda app, source, leave: app.stream(source).peek(leave),
    "flat_map": lambda app, source, leave: app.stream(source).flat_map(lambda n: [leave(n)], value=int),
    "flat_map, later": lambda app, source, leave: app.stream(source).flat_map(
        lambda n: (leave(n) for _ in "a"), value=int
    ),
    "branch": lambda app, source, leave: app.stream(source).branch(a=true_of(leave)),
    "to": chosen,
    "reduce": lambda app, source, leave: grouped(app, source).reduce(folding(leave), name="a"),
    "sum": lambda app, source, leave: grouped(app, source).sum(leave, value=int, name="a"),
    "min": lambda app, source, leave: grouped(app, source).min(leave, value=int, name="a"),
    "mean": lambda app, source, leave: grouped(app, source).mean(leave, name="a"),
    "top_n": lambda app, source, leave: grouped(app, source).top_n(2, by=leave, name="a"),
    "count_distinct": lambda app, source, leave: grouped(app, source).count_distinct(leave, of=int, name="a"),
    "deduplicate": lambda app, source, leave: app.stream(source).deduplicate(leave, within=SECOND, of=int, name="a"),
    "tumbling": windowed(kstream.Tumbling(seconds=1)),
    "hopping": windowed(kstream.Hopping(seconds=2, every=SECOND)),
    "cumulating": windowed(kstream.Cumulating(seconds=2, step=SECOND)),
    "sessions": windowed(kstream.Session(seconds=1), merge=lambda one, other: one + other),
    "gap_of": lambda app, source, leave: (
        grouped(app, source).window(kstream.Session(gap_of=lambda n: leave(n) * SECOND), grace=NONE).count(name="a")
    ),
    "sliding": windowed(kstream.Sliding(seconds=1)),
    "sliding as Kafka Streams'": windowed(kstream.KafkaSliding(seconds=1)),
    "sliding, told as it closes": windowed(kstream.KafkaSliding(seconds=1), emit="close"),
    "counting": lambda app, source, leave: (
        grouped(app, source).window(kstream.Counting(9)).aggregate(int, folding(leave), name="a")
    ),
    "join": joined,
    "process": lambda app, source, leave: app.stream(source).process(processor(leave, fold=False), name="p"),
    "a state's fold": lambda app, source, leave: app.stream(source).process(processor(leave, fold=True), name="p"),
    "map_values": lambda app, source, leave: table(app, source).map_values(leave, value=int).stream().peek(print),
    "a table's filter": lambda app, source, leave: table(app, source).filter(true_of(leave)).stream().peek(print),
    "a table's group_by": lambda app, source, leave: (
        table(app, source).group_by(lambda n: str(leave(n)), name="g", key=str).count(name="c")
    ),
}


@pytest.mark.parametrize("error", [SystemExit(1), Own("no"), asyncio.CancelledError("no"), StopIteration("no")])
@pytest.mark.parametrize("use", USES)
def test_what_a_function_raises_fails_its_record_wherever_it_is_called(use: str, error: BaseException) -> None:
    """Let through, it ends the worker with all of its tasks, at each of its starts."""

    def leave(n: int) -> int:
        if n == 2:
            raise error
        return n

    app = kstream.App("raises")
    source = app.topic("in", key=str, value=int, partitions=1)
    made = USES[use](app, source, leave)
    if use == "filter":  # of a lazy value nobody else asks
        made.peek(print)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2, 3):
            driver.cluster.append("in", b"k", b"%d" % n, timestamp=1000)
        with pytest.raises(ProcessingError, match=r"in\[0\] offset 1: ") as caught:
            driver.commit()
        assert type(error).__name__ in str(caught.value)
        assert driver.cluster.group("raises").offsets[TopicPartition("in", 0)][0] == 1
        driver.close(commit=False)


class Sum(msgspec.Struct):
    total: int = 0


def add(total: Sum, n: float) -> Sum:
    total.total += n  # type: ignore[assignment]
    return total


RESULTS: dict[str, Callable[[Any], Any]] = {
    "tumbling": lambda group: group.window(kstream.Tumbling(seconds=1), grace=NONE).aggregate(Sum, add, name="sums"),
    "sessions": lambda group: group.window(kstream.Session(seconds=1), grace=NONE).aggregate(
        Sum, add, merge=lambda one, other: Sum(one.total + other.total), name="sums"
    ),
    "sliding": lambda group: group.window(kstream.Sliding(seconds=1), grace=NONE).aggregate(Sum, add, name="sums"),
    "kafka": lambda group: group.window(kstream.KafkaSliding(seconds=1), grace=NONE).aggregate(Sum, add, name="sums"),
    "counting": lambda group: group.window(kstream.Counting(1)).aggregate(Sum, add, name="sums"),
}


@pytest.mark.parametrize("windows", RESULTS)
def test_results_that_cannot_be_read_back_say_which_aggregation_they_are_of(windows: str) -> None:
    app = kstream.App("sums")
    source = app.topic("in", key=str, value=float, partitions=1)
    made = RESULTS[windows](app.stream(source).group_by_key())
    (made if windows in ("sliding", "kafka", "counting") else made.stream()).peek(print)
    with TestDriver(app, partitions=1) as driver:
        with pytest.raises(KStreamError, match=r"'sums'.*Expected `int`, got `float` - at `\$\.total`"):
            driver.send(source, 0.5, key="k", timestamp=1000)
            driver.commit()
        driver.close(commit=False)


async def awaits(*_: Any) -> int:
    return 1


ASYNC: dict[str, Callable[[Any], Any]] = {
    "branch": lambda stream: stream.branch(a=awaits),
    "to": lambda stream: stream.to(awaits),
    "deduplicate": lambda stream: stream.deduplicate(awaits, within=SECOND),
    "top_n": lambda stream: stream.group_by_key().top_n(2, by=awaits),
    "mean": lambda stream: stream.group_by_key().mean(awaits),
    "count_distinct": lambda stream: stream.group_by_key().count_distinct(awaits),
    "aggregate": lambda stream: stream.group_by_key().window(kstream.Counting(3)).aggregate(int, awaits, name="a"),
    "map_values": lambda stream: stream.to_table("t").map_values(awaits),
    "filter": lambda stream: stream.to_table("t").filter(awaits),
    "group_by": lambda stream: stream.to_table("t").group_by(awaits, name="g"),
    "join": lambda stream: stream.join(stream.to_table("t"), awaits),
    "ReducingState": lambda stream: stream.process(with_state(kstream.ReducingState(int, awaits)), name="p"),
    "AggregatingState": lambda stream: stream.process(
        with_state(kstream.AggregatingState(int, folding(abs), result=awaits)), name="p"
    ),
}


def with_state(state: Any) -> type[Any]:
    class Keeps(kstream.Processor[str, int, int]):
        kept = state

        def process(self, n: int, ctx: kstream.ProcessorContext[str, int]) -> None: ...

    return Keeps


@pytest.mark.parametrize("call", ASYNC)
def test_async_functions_are_refused_where_they_are_given(call: str) -> None:
    app = kstream.App("awaits")
    with pytest.raises(TopologyError, match=rf"^{call}\(awaits\) is given an async function, .*: await in an agent"):
        ASYNC[call](app.stream(app.topic("in", key=str, value=int)))
