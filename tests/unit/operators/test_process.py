"""Processors: state of each key, results, and timers, by a definition in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.codecs.text import decoded, from_json
from kstream.codecs.timers import key_and_name, timer_key
from kstream.errors import KStreamError, ProcessingError, TopologyError
from kstream.operators import process
from kstream.runtime.task import overdue
from kstream.state.expiry import index_of
from kstream.testing import TestDriver
from support.cases import cases

MS = timedelta(milliseconds=1)

Step = tuple[str, str, str, int, int]
"""What a record asks for: key, "set", "cancel" or "count", the timer's name, how long after the record, its time."""


class Asked(kstream.Processor[str, list[Any], str]):
    """Does what records ask for, and says what it sees."""

    n = kstream.ValueState(int, default=0)

    def process(self, value: list[Any], ctx: kstream.ProcessorContext[str, str]) -> None:
        what, name, after = value
        self.n.value += 1
        ctx.emit(f"record {self.n.value} {ctx.due(name)}")
        if what == "set":
            ctx.timer(at=ctx.timestamp + after, name=name)
        elif what == "cancel":
            ctx.cancel(name)

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, str]) -> None:
        self.n.value += 100
        ctx.emit(f"{timer.name} {timer.at} {self.n.value}")
        if timer.name == "b":  # may be in the past by now
            ctx.timer(after=4 * MS, name="c")
        elif timer.name == "a":
            ctx.cancel("c")


def app_of(out_of_order: int = 0) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("asked")
    source = app.topic("in", key=str, value=list[Any], out_of_order=out_of_order * MS)
    out = app.topic("out", key=str, value=str)
    app.stream(source).process(Asked, name="p").to(out)
    return app, source, out


class Definition:
    """The same, one record after the other."""

    def __init__(self, out_of_order: int) -> None:
        self.late, self.time = out_of_order, -(1 << 62)
        self.timers: dict[tuple[str, str], int] = {}
        self.n: dict[str, int] = {}
        self.out: list[tuple[str, str, int]] = []

    def record(self, key: str, what: str, name: str, after: int, at: int) -> None:
        if (now := at - self.late) > self.time:
            self.time = now
            while due := sorted((when, *both) for both, when in self.timers.items() if when < now):
                self.fire(*due[0])
        self.n[key] = self.n.get(key, 0) + 1
        self.out.append((key, f"record {self.n[key]} {self.timers.get((key, name))}", at))
        if what == "set":
            self.timers[key, name] = at + after
        elif what == "cancel":
            self.timers.pop((key, name), None)

    def fire(self, at: int, key: str, name: str) -> None:
        del self.timers[key, name]
        self.n[key] = self.n.get(key, 0) + 100
        self.out.append((key, f"{name} {at} {self.n[key]}", at))
        if name == "b":
            self.timers[key, "c"] = at + 4
        elif name == "a":
            self.timers.pop((key, "c"), None)


steps = st.tuples(
    st.sampled_from(["k", "k\0", "l"]),
    st.sampled_from(["set", "set", "cancel", "count"]),
    st.sampled_from("abc"),
    st.integers(-6, 12),
    st.integers(0, 40).map(lambda at: 1000 + at),
)
scripts = st.lists(st.lists(steps, min_size=1, max_size=6) | st.sampled_from(["commit", "crash"]), max_size=14)


@cases
@given(scripts, st.integers(0, 4), st.sampled_from(["memory", "rocksdb"]))
def test_timers_are_what_their_definition_says(script: list[Any], out_of_order: int, backend: str) -> None:
    check_definition(script, out_of_order, backend)


@given(scripts, st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_and_where_time_goes_on_from_timer_to_timer(
    script: list[Any], out_of_order: int, most: int, piece: int
) -> None:
    """More are due in a row than fire at once: the batch, or the transaction, is taken back, and the rest goes by
    pieces."""
    with few_at_once(most, piece):
        check_definition(script, out_of_order, "memory")


@contextmanager
def few_at_once(most: int, piece: int) -> Iterator[None]:
    with mock.patch.object(process, "AT_ONCE", most), mock.patch.object(overdue, "PIECE", piece):
        yield


def check_definition(
    script: list[Any], out_of_order: int, backend: str, app_of: Callable[[int], tuple[kstream.App, Any, Any]] = app_of
) -> None:
    app, source, out = app_of(out_of_order)
    definition = Definition(out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for part in script:
            if part == "commit":
                driver.commit()
            elif part == "crash":
                driver.crash()
            else:
                for key, what, name, after, at in part:
                    driver.cluster.append("in", key.encode(), source.value.codec.encode([what, name, after]), at)
                    definition.record(key, what, name, after, at)
                driver.process()
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        assert found == definition.out
        kept = {record.key: record.value for record in driver.cluster.records("asked-p-timers-changelog")}
        left = {key_and_name(key or b"") for key, value in kept.items() if value is not None}
        assert left == {(key.encode(), name) for key, name in definition.timers}
        if "crash" not in script:
            (task,) = driver.worker.tasks.values()
            index = [entry for entry, _ in task.backend.scan(index_of("p-timers"))]
            assert sorted((int.from_bytes(one[1:9], "big"), *key_and_name(one[9:])) for one in index) == sorted(
                (at, key.encode(), name) for (key, name), at in definition.timers.items()
            )


cuts = st.lists(st.lists(steps, min_size=1, max_size=6), max_size=8)


@given(cuts, st.integers(0, 4), st.booleans())
def test_how_the_input_is_cut_does_not_show_where_others_write_to_the_same_topic(
    script: list[list[Step]], out_of_order: int, filters: bool
) -> None:
    def outputs(cuts: list[list[Step]]) -> list[tuple[Any, ...]]:
        app, source, out = app_of(out_of_order)
        app.stream(source).map(lambda value: f"copy {value}", value=str).to(out)
        some = app.stream(source).filter(lambda value: not filters or value[0] != "count")
        some.process(Asked, name="q").filter(lambda text: "3" not in text).to(out)
        with TestDriver(app, partitions=1) as driver:
            for part in cuts:
                for key, what, name, after, at in part:
                    driver.cluster.append("in", key.encode(), source.value.codec.encode([what, name, after]), at)
                driver.process()
            return [(record.key, record.value, record.timestamp) for record in driver.records(out)]

    assert outputs(script) == outputs([[step] for part in script for step in part])


@given(st.lists(st.tuples(st.binary(max_size=4), st.text(max_size=3)), max_size=20))
def test_keys_of_timers_are_in_the_order_of_keys_and_names(pairs: list[tuple[bytes, str]]) -> None:
    ordered = sorted(pairs, key=lambda pair: (pair[0], pair[1].encode()))
    assert sorted(timer_key(*pair) for pair in pairs) == [timer_key(*pair) for pair in ordered]
    assert [key_and_name(timer_key(*pair)) for pair in pairs] == pairs


class Totals(kstream.Processor[str, int, dict[str, Any]]):
    last = kstream.ValueState(int)
    some = kstream.ListState(int)
    by_tens = kstream.MapState(int, int)
    largest = kstream.ReducingState(int, max)
    mean = kstream.AggregatingState(
        list[int],
        lambda pair, n: [pair[0] + n, pair[1] + 1] if pair else [n, 1],
        result=lambda pair: pair[0] / pair[1],
        kind=list[int],
    )

    def process(self, value: int, ctx: kstream.ProcessorContext[str, dict[str, Any]]) -> None:
        if value == 0:
            for state in (self.last, self.some, self.by_tens, self.largest, self.mean):
                state.clear()
        else:
            self.last.value = value
            self.some.append(value)
            self.by_tens[value // 10] = self.by_tens.get(value // 10, 0) + 1
            self.largest.add(value)
            self.mean.add(value)
        ctx.emit(
            {
                "last": self.last.value, "some": self.some.value, "by_tens": sorted(map(list, self.by_tens.items())),
                "largest": self.largest.value, "mean": self.mean.value,
            }
        )  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 25)) | st.sampled_from(["commit", "crash"]), max_size=30),
    st.sampled_from(["memory", "rocksdb"]),
)
def test_states_are_those_of_the_key_at_hand(script: list[Any], backend: str) -> None:
    app = kstream.App("states")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=dict[str, Any])
    app.stream(source).process(Totals, name="t").to(out)
    of: dict[str, list[int]] = {"a": [], "b": []}
    expected = []
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for step in script:
            if step == "commit":
                driver.commit()
            elif step == "crash":
                driver.crash()
            else:
                key, n = step
                driver.send(source, n, key=key)
                of[key] = [*of[key], n] if n else []
                some = of[key]
                tens = sorted({n // 10: sum(m // 10 == n // 10 for m in some) for n in some}.items())
                expected.append(
                    {
                        "last": some[-1] if some else None, "some": some, "by_tens": [list(pair) for pair in tens],
                        "largest": max(some, default=None), "mean": sum(some) / len(some) if some else None,
                    }
                )  # fmt: skip
        assert driver.values(out) == expected
        kept = {record.key: record.value for record in driver.cluster.records("states-t-some-changelog")}
        assert {key for key, value in kept.items() if value is not None} == {
            k.encode() for k, some in of.items() if some
        }


def test_a_map_and_a_list_can_be_used_as_such() -> None:
    class Uses(kstream.Processor[str, int, list[Any]]):
        some = kstream.ListState(int)
        of = kstream.MapState(str, int)

        def process(self, value: int, ctx: Any) -> None:
            self.some.extend([value, value])
            self.of.update(a=value, b=2)
            del self.of["a"]
            ctx.emit([list(self.some), len(self.some), "b" in self.of, self.of.value, bool(self.of), len(self.of)])
            self.some.value, self.of.value = [], {}
            ctx.emit([len(self.some), len(self.of), self.of.get("b")])

    app = kstream.App("uses")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[Any])
    app.stream(source).process(Uses, name="u").to(out)
    with TestDriver(app) as driver:
        driver.send(source, 7, key="k")
        assert driver.values(out) == [[[7, 7], 2, True, {"b": 2}, True, 1], [0, 0, None]]


def test_state_may_expire() -> None:
    class Seen(kstream.Processor[str, int, int]):
        n = kstream.ValueState(int, default=0, ttl=kstream.TTL(hours=1))
        items = kstream.MapState(str, int, ttl=kstream.TTL(hours=1, per="entry"))

        def process(self, value: int, ctx: Any) -> None:
            self.n.value += 1
            self.items[str(value)] = value
            ctx.emit(self.n.value * 10 + len(self.items))

    app = kstream.App("seen")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).process(Seen, name="s").to(out)
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k")
        driver.advance(minutes=40)
        driver.send(source, 2, key="k")
        driver.advance(minutes=40)
        driver.send(source, 3, key="k")
        driver.advance(hours=2)
        driver.crash()
        driver.send(source, 3, key="k")
        assert driver.values(out) == [11, 22, 32, 11]


def test_a_state_that_is_read_is_live_and_one_that_is_changed_in_place_is_found() -> None:
    class Wrong(kstream.Processor[str, int, int]):
        pairs = kstream.ValueState(dict[str, int], default=dict)

        def process(self, value: int, ctx: Any) -> None:
            self.pairs.value["n"] = value

    app = kstream.App("wrong")
    source = app.topic("in", key=str, value=int)
    app.stream(source).process(Wrong, name="w")
    with TestDriver(app) as driver, pytest.raises(KStreamError, match="changed in place and not assigned"):
        driver.send(source, 1, key="k")
        driver.commit()


def test_what_was_emitted_does_not_change_with_the_state() -> None:
    class Collects(kstream.Processor[str, int, list[int]]):
        some = kstream.ValueState(list[int], default=list)

        def process(self, value: int, ctx: Any) -> None:
            some = self.some.value
            some.append(value)
            self.some.value = some
            ctx.emit(some)
            ctx.emit(some, to="copy")

    app = kstream.App("collects")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=list[int])
    copies = app.topic("copies", key=str, value=list[int])
    made = app.stream(source).process(Collects, name="c")
    made.filter(lambda some: True).to(out)
    made.side("copy", value=list[int]).to(copies)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2, 3):
            driver.cluster.append("in", b"k", str(n).encode())
        assert driver.values(out) == driver.values(copies) == [[1], [1, 2], [1, 2, 3]]


class Late(kstream.Processor[str, int, int]):
    """A timer's result goes where it belongs; late ones to the side."""

    def process(self, value: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        if value < 0:
            ctx.emit(str(value), to="late")
        ctx.timer(after=5 * MS, name=str(value))

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, int]) -> None:
        assert ctx.offset == -1 and ctx.headers is None and timer.time.year == 1970
        if timer.name.startswith("-"):
            ctx.emit(timer.name, to="late")
        else:
            ctx.emit(int(timer.name))


def test_side_outputs() -> None:
    app = kstream.App("late")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    late = app.topic("late", key=str, value=str)
    made = app.stream(source).process(Late, name="l")
    made.map(lambda n: n * 2, value=int).to(out)
    made.side("late", value=str).peek(lambda text: text).to(late)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((1, 1000), (-2, 1001), (3, 1006), (4, 1020)):
            driver.send(source, n, key="k", timestamp=at, headers=[("h", b"1")])
        assert [(one.value, one.timestamp) for one in driver.records(out)] == [(2, 1005), (6, 1011)]
        assert [(one.value, one.timestamp) for one in driver.records(late)] == [("-2", 1001), ("-2", 1006)]


def test_a_side_output_that_is_not_declared_is_refused() -> None:
    app = kstream.App("late")
    source = app.topic("in", key=str, value=int)
    app.stream(source).process(Late, name="l")
    with TestDriver(app) as driver, pytest.raises(ProcessingError, match=r"no such side output: declare it behind"):
        driver.send(source, -1, key="k")


def test_records_without_a_key_are_left_out() -> None:
    app, source, out = app_of()
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, ["set", "a", 1], key=None)
        driver.send(source, ["set", "a", 1], key="k")
        assert len(driver.values(out)) == 1
        dropped = [one.dropped for task in driver.worker.tasks.values() for one in task.plan.operators]
        assert sum(one["no key"] for one in dropped) == 1


def test_a_key_that_was_changed_goes_home_first() -> None:
    app = kstream.App("rekeyed")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=int, value=int)

    class Count(kstream.Processor[int, int, int]):
        n = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.n.value += 1
            ctx.timer(after=MS)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(self.n.value)

    app.stream(source).rekey(lambda n: n % 3 if n < 99 else 99, key=int).process(Count, name="c").to(out)
    with TestDriver(app) as driver:
        for n in range(30):
            driver.send(source, n, key=str(n), timestamp=1000 + n // 15)
        for partition in range(4):
            driver.send(source, 99, key="end", timestamp=2000, partition=partition)
        found = {record.key: record.value for record in driver.records(out)}
        assert found == {0: 10, 1: 10, 2: 10}
        assert driver.cluster.records("rekeyed-c-repartition")


def test_a_processor_is_opened_and_closed_with_its_task() -> None:
    said: list[str] = []

    class Opens(kstream.Processor[str, int, None]):
        n = kstream.ValueState(int, default=0)

        def open(self, ctx: Any) -> None:
            said.append(f"open {ctx.task}")
            with pytest.raises(KStreamError, match="outside a record or timer"):
                _ = self.n.value
            with pytest.raises(KStreamError, match="only while a record is processed"):
                _ = ctx.key
            with pytest.raises(KStreamError, match="a timer belongs to a key"):
                ctx.timer(after=MS)

        def process(self, value: int, ctx: Any) -> None:
            said.append(f"{ctx.key} {ctx.offset} {dict(ctx.headers or ())} {ctx.timestamp}")

        def on_timer(self, timer: Any, ctx: Any) -> None: ...

        def close(self) -> None:
            said.append("close")

    app = kstream.App("opens")
    source = app.topic("in", key=str, value=int)
    app.stream(source).process(Opens, name="o")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k", timestamp=5, headers=[("h", b"x")])
        driver.send(source, 1, key="l", timestamp=6)
    assert said == ["open in/0", "k 0 {'h': b'x'} 5", "l 1 {} 6", "close"]


def test_open_that_fails_blames_no_record() -> None:
    class Fails(kstream.Processor[str, int, None]):
        def open(self, ctx: Any) -> None:
            raise ValueError("no")

        def process(self, value: int, ctx: Any) -> None: ...

    app = kstream.App("opens", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    app.stream(source).process(Fails, name="o")
    with TestDriver(app, partitions=1) as driver:
        with pytest.raises(KStreamError, match="open of processor 'o' failed: ValueError: no"):
            driver.send(source, 1, key="k")
        assert driver.cluster.records("opens-dead-letters") == []


def test_a_table_and_ctx_send_can_be_used() -> None:
    app = kstream.App("uses")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    names = app.table("names", key=str, value=int, default=int)

    class Uses(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            names[ctx.key] += value
            ctx.timer(after=MS)
            ctx.emit(names[ctx.key])

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.send(out, names[ctx.key] * 100)

    app.stream(source).process(Uses, name="u").to(out)
    for together in (False, True):
        with TestDriver(app, partitions=1) as driver:
            for n, at in ((1, 1000), (2, 1001), (3, 1005), (4, 1005)):
                driver.cluster.append("in", b"k", str(n).encode(), at)
                if not together:
                    driver.process()
            assert driver.values(out) == [1, 3, 300, 6, 10]


def refused(declare: Callable[[kstream.App, Any], object]) -> str:
    app = kstream.App("refused")
    with pytest.raises(TopologyError) as error:
        declare(app, app.stream(app.topic("in", key=str, value=int)))
        app.topology()
    return str(error.value)


def processor(**attributes: Any) -> Any:
    given = {"process": lambda self, value, ctx: None} | attributes
    return type("Made", (kstream.Processor,), given)


class Generating(kstream.Processor[str, int, int]):
    def process(self, value: int, ctx: Any) -> Any:
        yield value


class Waiting(kstream.Processor[str, int, int]):
    async def process(self, value: int, ctx: Any) -> None: ...  # type: ignore[override]


class Without(kstream.Processor[str, int, int]):
    pass


class OfText(kstream.Processor[str, str, int]):
    def process(self, value: str, ctx: Any) -> None: ...


class OfNumbers(kstream.Processor[int, int, int]):
    def process(self, value: int, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app, s: s.process(Generating, name="p"), "yields: write ctx.emit(value) instead"),
        (lambda app, s: s.process(Waiting, name="p"), "nothing awaits it: use an agent"),
        (lambda app, s: s.process(Without, name="p"), "has no process(self, value, ctx)"),
        (lambda app, s: s.process(OfText, name="p"), "for values of type str, and the stream has int"),
        (lambda app, s: s.process(OfNumbers, name="p"), "for keys of type int, and the stream has str"),
        (lambda app, s: s.process(int, name="p"), "has not the base kstream.Processor"),
        (lambda app, s: s.process(processor()(), name="p"), "give it the class, not an instance"),
        (lambda app, s: s.process(processor(), name="a b"), "Kafka takes letters"),
        (
            lambda app, s: s.process(processor(timers=kstream.ValueState(int), on_timer=print), name="p"),
            "call the state otherwise",
        ),
        (lambda app, s: [s.process(processor(n=kstream.ValueState(int)), name="p") for _ in "ab"], "two declarations"),
        (lambda app, s: [s.process(processor(), name="p") for _ in "ab"], "two declarations of the processor 'p'"),
        (lambda app, s: s.process(processor(n=kstream.ValueState(int, default="x")), name="p"), "'x' is no int"),
        (lambda app, s: s.process(processor(), name="p").filter(bool).side("x", value=int), "no attribute 'side'"),
        (lambda app, s: [s.process(Late, name="p").side("x", value=int).node] * 0 or two_sides(s), "already"),
        (
            lambda app, s: s.process(Late, name="p").group_by_key().window(kstream.Tumbling(MS), grace=MS).count(),
            "the results of 'p' come after their times have passed here (its timers)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(declare: Callable[[kstream.App, Any], object], said: str) -> None:
    try:
        found = refused(declare)
    except AttributeError as error:
        found = str(error)
    assert said in found


def two_sides(stream: Any) -> None:
    made = stream.process(Late, name="q")
    made.side("x", value=int)
    made.side("x", value=int)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda ctx: ctx.timer(), "say when it is due"),
        (lambda ctx: ctx.timer(at=1, after=MS), "by one of them"),
        (
            lambda ctx: ctx.timer(at=0),
            "ctx.timer: 0 is no time of a timer: ms since the epoch, from 1 to 9223372036854775806",
        ),
        (lambda ctx: ctx.timer(at=2**63), "from 1 to 9223372036854775806"),
        (lambda ctx: ctx.timer(at="now"), "ctx.timer: at='now' is neither a datetime"),
        (lambda ctx: ctx.timer(at=1.5), "ctx.timer: at=1.5 is neither a datetime"),
        (lambda ctx: ctx.timer(after=timedelta.max), "ctx.timer: after=.* is longer than 10,000 years"),
        (lambda ctx: ctx.timer(at=5, name="\ud800"), r"name='\\ud800' of a timer: .* not UTF-8"),
        (lambda ctx: ctx.cancel("\ud800"), "not UTF-8"),
        (lambda ctx: ctx.due("\ud800"), "not UTF-8"),
        (lambda ctx: ctx.timer(after=0 * MS), "1 at least"),
        (lambda ctx: ctx.timer(after=5), "is not a timedelta"),
        (lambda ctx: ctx.timer(at=5, clock="sun"), "neither 'event' nor 'wall'"),
        (lambda ctx: ctx.timer(at=5, name=5), "name=5 of a timer"),
        (lambda ctx: ctx.emit("text"), "ctx.emit of processor 'p'"),
        (lambda ctx: ctx.emit(None), "ctx.emit of processor 'p'"),
    ],
)
def test_what_cannot_be_asked_of_the_context(call: Callable[[Any], None], said: str) -> None:
    app = kstream.App("asked")
    source = app.topic("in", key=str, value=int)

    class Calls(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            call(ctx)

        def on_timer(self, timer: Any, ctx: Any) -> None: ...

    app.stream(source).process(Calls, name="p")
    with TestDriver(app) as driver, pytest.raises(ProcessingError, match=said):
        driver.send(source, 1, key="k")


class Waits(kstream.Processor[str, int, str]):
    """Sets a timer, by the clock or not, and one more from it, of a clock that is not said."""

    first: Any = "wall"
    again: dict[str, Any] = {"after": timedelta(minutes=1)}  # noqa: RUF012

    def process(self, value: int, ctx: Any) -> None:
        if value:
            ctx.timer(after=timedelta(minutes=1), clock=self.first)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        ctx.emit(f"{timer.clock} {timer.name}")
        if timer.name != "again":
            ctx.timer(name="again", **self.again)


@pytest.mark.parametrize("at", [-1, -5])
def test_a_record_without_a_time_has_none_to_count_from(at: int) -> None:
    app = kstream.App("asked", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    made: Any = type("Made", (Waits,), {"first": "event"})
    app.stream(source).process(made, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"k", b"1", at)
        driver.process()
        driver.commit()
        driver.send(source, 0, key="k", timestamp=10_000_000)
        assert driver.values(out) == []
        assert driver.worker.measures.skipped["in", "KStreamError"] == 1


@pytest.mark.parametrize("first", ["wall", "event"])
@pytest.mark.parametrize("said", [None, "wall", "event"])
def test_a_timer_that_a_timer_sets_goes_by_its_clock_unless_another_is_said(first: str, said: str | None) -> None:
    again = {"after": timedelta(minutes=1)} | ({} if said is None else {"clock": said})
    made: Any = type("Made", (Waits,), {"first": first, "again": again})
    app = kstream.App("asked")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(made, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k", timestamp=1000)
        if first == "event":
            driver.send(source, 0, key="k", timestamp=61_001)
        else:
            driver.advance(minutes=1)
        assert driver.values(out) == [f"{first} "]
        driver.advance(minutes=1)
        by_clock = (said or first) == "wall"
        assert driver.values(out) == [f"{first} "] + ["wall again"] * by_clock
        driver.send(source, 0, key="k", timestamp=int(driver.clock.time() * 1000) + 120_000)
        assert driver.values(out) == [f"{first} ", f"{said or first} again"]


def test_a_timer_beyond_what_a_datetime_holds() -> None:
    assert kstream.Timer("", 253_402_300_799_000, "event").time.year == 9999
    with pytest.raises(KStreamError, match=r"timer\.time: 253402300800000 ms .* use timer\.at"):
        _ = kstream.Timer("", 253_402_300_800_000, "event").time


def test_what_has_no_timers_says_what_has() -> None:
    app = kstream.App("asked")
    source = app.topic("in", key=str, value=int)
    with pytest.raises(
        TopologyError, match=r"Waits is a processor: write app\.stream\(\.\.\.\)\.process\(Waits, name=\.\.\.\)"
    ):
        app.agent(source)(Waits)

    def wants(value: int, ctx: kstream.ProcessorContext[str, int]) -> int:
        return value

    for declare in (app.agent(source), app.stream(source).map):
        with pytest.raises(
            TopologyError, match=r"wants is declared with a ProcessorContext, .* write a kstream\.Processor"
        ):
            declare(wants)

    @app.agent(source)
    def asks(value: int, ctx: Any) -> None:
        ctx.timer(after=MS)

    with TestDriver(app) as driver, pytest.raises(ProcessingError, match=r"ctx\.timer: .* by @the_agent\.on_timer"):
        driver.send(source, 1, key="k")


def test_timers_want_on_timer_and_states_are_not_assigned() -> None:
    app = kstream.App("asked")
    source = app.topic("in", key=str, value=int)

    class Calls(kstream.Processor[str, int, int]):
        n = kstream.ValueState(int)

        def process(self, value: int, ctx: Any) -> None:
            if value:
                self.n = value  # type: ignore[assignment]
            ctx.timer(at=1)

    app.stream(source).process(Calls, name="p")
    for value, said in ((0, r"has no on_timer\(self, timer, ctx\): define it"), (1, r"write self\.n\.value")):
        with TestDriver(app) as driver, pytest.raises(ProcessingError, match=said):
            driver.send(source, value, key="k")


def test_sinks_with_offsets_of_their_own_do_not_stand_behind_timers() -> None:
    class Kept(kstream.BatchingSink):
        needs_offsets = True

        def write(self, records: Any) -> None: ...

    app = kstream.App("sinks")
    made = app.stream(app.topic("in", key=str, value=int)).process(Late, name="p")
    with pytest.raises(TopologyError, match="needs the offset of each record"):
        made.sink(Kept())


def test_timers_that_wait_can_be_looked_at() -> None:
    app, source, _ = app_of()
    (spec,) = (one for one in app.topology().parts[0].stores if one.holds == "timers")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, ["set", "a", 5], key="k\0", timestamp=1000)
        driver.commit()
        (record,) = driver.cluster.records("asked-p-timers-changelog")
        assert decoded(spec.key.codec, record.key, key=True).plain == {"key": "k\0", "name": "a"}
        assert decoded(spec.value.codec, record.value).plain == {"clock": "event", "at": 1005}
    assert from_json(spec.key.codec, b'{"key":"k\\u0000","name":"a"}', "the key") == record.key
    assert spec.home_key(record.key or b"") == b"k\0"


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit("gone")])
def test_a_close_of_a_processor_that_fails_is_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    class Sticks(kstream.Processor[str, str, str]):
        def process(self, value: str, ctx: kstream.ProcessorContext[str, str]) -> None: ...

        def close(self) -> None:
            raise error

    app = kstream.App("sticking")
    source = app.topic("in", key=str, value=str)
    app.stream(source).process(Sticks, name="sticks")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "x", key="k")
    assert f"close of processor 'sticks' failed: {type(error).__name__}: gone" in caplog.text
