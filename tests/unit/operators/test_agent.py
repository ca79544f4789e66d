"""What agents put out: keys, timestamps, headers, order; what they are told of the record at hand."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import CodecError, ProcessingError
from kstream.testing import TestDriver

#: What to put out for a record: None, the plain value, or a Record of its own.
results = st.lists(
    st.lists(st.sampled_from(["none", "plain", "record", "tombstone"]), max_size=3), min_size=1, max_size=8
)


def outputs(kinds: list[str], n: int) -> Iterator[Any]:
    for i, kind in enumerate(kinds):
        value = 100 * n + i
        if kind == "none":
            yield None
        elif kind == "plain":
            yield value
        elif kind == "record":
            yield kstream.Record(f"r{i}", value, timestamp=7, headers=[("h", b"%d" % i)])
        else:
            yield kstream.Record(f"t{i}", None)


def expected(script: list[list[str]]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for n, kinds in enumerate(script):
        for i, result in enumerate(outputs(kinds, n)):
            if isinstance(result, kstream.Record):
                at = 50 + n if result.timestamp is None else result.timestamp
                found.append((result.key, result.value, at, result.headers and list(result.headers)))
            elif result is not None:
                found.append((f"k{n}", 100 * n + i, 50 + n, None))
    return found


@pytest.mark.parametrize("kind", ["generator", "async", "function"])
@given(script=results, size=st.integers(1, 9))
def test_outputs_have_their_own_or_their_inputs_key_and_time_and_keep_their_order(
    kind: str, script: list[list[str]], size: int
) -> None:
    app = kstream.App("outputs")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int | None)
    if kind == "function":
        script = [kinds[:1] for kinds in script]

        @app.agent(source, to=out)
        def function(n: int) -> Any:
            return next(outputs(script[n], n), None)

    elif kind == "generator":

        @app.agent(source, to=out)
        def generator(n: int) -> Iterator[Any]:
            yield from outputs(script[n], n)

    else:

        @app.agent(source, to=out)
        async def stream(values: kstream.AgentStream[str, int]) -> AsyncIterator[Any]:
            async for n in values:
                for result in outputs(script[n], n):
                    yield result

    with TestDriver(app, partitions=1) as driver:
        driver.cluster.batch_sizes = iter([size] * 10)
        for n in range(len(script)):
            driver.cluster.append(source.name, b"k%d" % n, b"%d" % n, timestamp=50 + n)
        found = [
            (record.key, record.value, record.timestamp, record.headers and list(record.headers))
            for record in driver.records(out)
        ]
    assert found == expected(script)


@pytest.mark.parametrize("counts", [[2, 0, 1], [0, 2, 1], [1, 0, 2], [1, 1, 1], [0, 3, 0], [0, 1, 2]])
def test_as_many_outputs_as_records_need_not_be_one_of_each(counts: list[int]) -> None:
    app = kstream.App("counts")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    @app.agent(source, to=out)
    def agent(n: int) -> Iterator[int]:
        yield from [n] * counts[n]

    with TestDriver(app, partitions=1) as driver:
        for n in range(3):
            driver.cluster.append(source.name, b"k%d" % n, b"%d" % n, timestamp=50 + n)
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
    assert found == [(f"k{n}", n, 50 + n) for n, count in enumerate(counts) for _ in range(count)]


def test_a_yielded_value_is_taken_when_it_is_yielded() -> None:
    class Box(msgspec.Struct):
        n: int

    app = kstream.App("taken")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=Box)

    @app.agent(source, to=out)
    async def agent(values: kstream.AgentStream[str, int]) -> AsyncIterator[Box]:
        box = Box(0)
        async for n in values:
            box.n = n
            yield box
            box.n = -1
            yield kstream.Record("r", box)  # type: ignore[misc]
            box.n = -2

    with TestDriver(app, partitions=1) as driver:
        for n in (5, 6):
            driver.cluster.append(source.name, b"k", b"%d" % n)
        assert [box.n for box in driver.values(out)] == [5, -1, 6, -1]


def test_events_tell_all_of_the_record() -> None:
    app = kstream.App("events")
    source = app.topic("in", key=str, value=int)
    seen: list[Any] = []

    @app.agent(source)
    async def agent(values: kstream.AgentStream[str, int]) -> None:
        async for event in values.events():
            seen.append(event)

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=5, headers=[("h", b"1")])
        driver.send(source, 2, key="b", timestamp=6)
    assert [list(event.headers or ()) for event in seen] == [[("h", b"1")], []]
    assert {(event.topic, event.partition) for event in seen} == {("in", 0)}
    assert [(event.key, event.value, event.timestamp, event.offset) for event in seen] == [
        ("a", 1, 5, 0), ("b", 2, 6, 1),
    ]  # fmt: skip


def test_the_context_tells_all_of_the_record_and_sends() -> None:
    app = kstream.App("contexts")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str, partitions=3)
    seen: list[Any] = []

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        seen.append((ctx.key, ctx.timestamp, ctx.topic, ctx.partition, ctx.offset, ctx.task, ctx.worker.index))
        ctx.send(out, "plain")
        ctx.send(out, "own", key="x", timestamp=9, headers=[("h", b"1")], partition=2)

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=5)
        assert seen == [("a", 5, "in", 0, 0, "in/0", 0)]
        assert [(r.key, r.value, r.timestamp, list(r.headers or ())) for r in driver.records(out)] == [
            ("a", "plain", 5, []), ("x", "own", 9, [("h", b"1")]),
        ]  # fmt: skip
        assert [record.partition for record in driver.cluster.records("out")][1] == 2


def test_lifespan_prepares_what_agents_use_and_releases_it() -> None:
    app = kstream.App("lifespan")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    events: list[str] = []

    @app.lifespan
    async def resources(worker: kstream.Worker) -> Any:
        worker.state.offset = 100
        events.append("open")
        yield
        events.append("closed")

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> int:
        return n + int(ctx.worker.state.offset)

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a")
        assert driver.values(out) == [101]
        assert events == ["open"]
        with pytest.raises(AttributeError, match="set it in the function under @app"):
            _ = driver.worker.worker.state.nothing
    assert events == ["open", "closed"]


def test_an_agent_can_be_called_like_the_function_it_is() -> None:
    app = kstream.App("calls")

    @app.agent(app.topic("in", key=str, value=int))
    def agent(n: int) -> int:
        """Doubles."""
        return 2 * n

    assert agent(4) == 8
    assert agent.__doc__ == "Doubles."


@pytest.mark.parametrize("before", [[], [1], [kstream.Record("r", 1)], [1, kstream.Record("r", 1)]], ids=str)
@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (int, "text"),
        (int, kstream.Record("r", "text")),
        (int, kstream.Record(5, 1)),
        (int, True),
        (float | int, float("nan")),
        (float | int, kstream.Record("r", float("inf"))),
    ],
)
def test_an_output_of_another_type_than_its_topic_fails_at_its_record(kind: Any, bad: Any, before: list[Any]) -> None:
    """A reader could not decode it."""
    app = kstream.App("types")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=kind)

    @app.agent(source, to=out)
    def agent(n: int) -> Any:
        yield from before
        yield bad if n == 2 else 7

    driver = TestDriver(app, partitions=1)
    for n in range(4):
        driver.cluster.append(source.name, b"k", b"%d" % n)
    with pytest.raises(ProcessingError) as caught:
        driver.process()
    assert caught.value.offset == 2
    assert isinstance(caught.value.__cause__, CodecError)
    assert len(driver.cluster.records(out.name)) == 2 * (len(before) + 1)
    assert [record.value for record in driver.cluster.records(out.name)][-1:] == [b"7"]
    driver.close(commit=False)


async def later() -> int:
    return 1


@pytest.mark.parametrize(
    ("result", "advice"),
    [
        (lambda n: [n, n], "yield each of several"),
        (lambda n: ("k", n), "kstream.Record"),
        (lambda n: (n for _ in range(2)), "yield each"),
        (lambda _: later(), "async def f"),
        (repr, "as it was$"),
    ],
    ids=["list", "pair", "generator", "coroutine", "text"],
)
def test_what_is_no_result_is_told_with_what_to_write(result: Any, advice: str) -> None:
    app = kstream.App("results")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.agent(source, to=out, name="agent")(result)
    with pytest.raises(ProcessingError, match=advice), TestDriver(app) as driver:
        driver.send(source, 1, key="k")


def test_a_table_that_is_keyed_otherwise_than_its_records_is_named() -> None:
    app = kstream.App("keyed")
    source = app.topic("in", key=str, value=int)
    table = app.table("by-number", key=int, value=int, default=int)

    @app.agent(source)
    def keep(n: int) -> None:
        table[n] = n

    with pytest.raises(ProcessingError, match=r"table 'by-number': .*group_by"), TestDriver(app) as driver:
        driver.send(source, 1, key="k")


def test_what_is_sent_is_of_its_topics_types() -> None:
    app = kstream.App("types")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.agent(source)(lambda n, ctx: ctx.send(out, "text" if n else 1))
    driver = TestDriver(app, partitions=1)
    driver.send(source, 0, key="a")
    with pytest.raises(ProcessingError, match="where int was declared"):
        driver.send(source, 1, key="a")
    driver.close(commit=False)


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize("form", ["returned", "Record", "ctx.send"])
@pytest.mark.parametrize(("check_values", "refused_at"), [("sample", 0), ("always", 0), ("always", 1)])
@pytest.mark.parametrize(
    ("kind", "good", "bad"), [(dict, {"a": 1}, {"a": Level.LOW}), (list[bytes], [b"a"], [bytearray(b"a")])]
)
def test_whichever_way_it_goes_out_it_is_compared_to_the_last_type(
    form: str, check_values: str, refused_at: int, kind: Any, good: Any, bad: Any
) -> None:
    app = kstream.App("types")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=kind)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        value = bad if n == refused_at else good
        if form == "ctx.send":
            ctx.send(out, value)
            return None
        return value if form == "returned" else kstream.Record("r", value)

    with TestDriver(app, partitions=1, check_values=check_values) as driver:
        for n in range(refused_at):
            driver.send(source, n, key="a")
        with pytest.raises(ProcessingError, match="would not come back as it was") as caught:
            driver.send(source, refused_at, key="a")
        assert caught.value.offset == refused_at


def _stream(app: kstream.App, source: Any, to: Any) -> None:
    app.stream(source).map(lambda value: "text").to(to)


def _group(app: kstream.App, source: Any, to: Any) -> None:
    app.stream(source).group_by(lambda value: value, key=str, name="to").count(name="n")


def _value(app: kstream.App, source: Any, to: Any) -> None:
    app.agent(source, to=to, name="a")(lambda value: "text")


def _record(app: kstream.App, source: Any, to: Any) -> None:
    app.agent(source, to=to, name="a")(lambda value: kstream.Record(5, value))


def _headers(app: kstream.App, source: Any, to: Any) -> None:
    headers: Any = 5
    app.agent(source, to=to, name="a")(lambda value: kstream.Record("k", value, headers=headers))


def _yielded(app: kstream.App, source: Any, to: Any) -> None:
    @app.agent(source, to=to)
    async def yielding(stream: Any) -> AsyncIterator[Any]:
        async for _ in stream:
            yield "text"


@pytest.mark.parametrize("declare", [_stream, _value, _record, _headers, _yielded])
def test_what_cannot_be_written_is_told_with_its_topic(declare: Any) -> None:
    app = kstream.App("named")
    source = app.topic("from", key=str, value=int)
    declare(app, source, app.topic("to", key=str, value=int))
    with TestDriver(app) as d, pytest.raises(ProcessingError, match=r"offset 0: \w+: topic 'to': "):
        d.send(source, 1, key="a")
        d.commit()


def test_a_key_that_cannot_be_written_is_told_with_its_internal_topic() -> None:
    app = kstream.App("named")
    source = app.topic("from", key=str, value=int)
    _group(app, source, None)
    with TestDriver(app) as d, pytest.raises(ProcessingError, match="CodecError: topic 'named-to-repartition': "):
        d.send(source, 1, key="a")


@pytest.mark.parametrize("partition", [None, "1", 1.0, True])
def test_a_partition_is_a_whole_number(partition: Any) -> None:
    app = kstream.App("types")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.agent(source)(lambda n, ctx: ctx.send(out, n, partition=partition))
    with TestDriver(app, partitions=2) as driver, pytest.raises(ProcessingError, match=r"partition=.* of Topic\('out'"):
        driver.send(source, 1, key="a")
