"""What is written wrongly is told where it is declared, or at the record where it is lost."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

import kstream
from kstream.errors import KStreamError, ProcessingError, TopologyError
from kstream.testing import TestDriver

Base = kstream.Processor[str, str, str]


class InInit(Base):
    def __init__(self) -> None:
        self.total = kstream.ValueState(int, default=0)

    def process(self, value: str, ctx: Any) -> None: ...


class Twice(Base):
    a = b = kstream.ValueState(int, default=0)

    def process(self, value: str, ctx: Any) -> None: ...


class Misspelt(Base):
    def process(self, value: str, ctx: Any) -> None: ...

    def on_timers(self, timer: kstream.Timer, ctx: Any) -> None: ...


class Camel(Base):
    def process(self, value: str, ctx: Any) -> None: ...

    def onTimer(self, timer: kstream.Timer, ctx: Any) -> None: ...


class Annotated(Base):
    def process(self, value: str, ctx: Any) -> str:  # type: ignore[override]
        return value


class Helped(Base):
    """Its other methods are its own business."""

    total = kstream.ValueState(int, default=0)

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def process(self, value: str, ctx: Any) -> None: ...

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None: ...

    def on_timers(self) -> int:
        return 1

    def processed(self) -> int:
        return 1


class Colour(Enum):
    RED = 1


class OfAnEnum(Base):
    """`MapState` is its own here, as any name may be."""

    def __init__(self) -> None:
        self.colour, self.lock = MapState.RED, kstream.errors

    def process(self, value: str, ctx: Any) -> None:
        self.on_time(value)

    def on_time(self, value: str) -> None: ...


MapState = Colour


def declared(processor: Any) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("written")
    source, out = app.topic("in", key=str, value=str, partitions=1), app.topic("out", key=str, value=str)
    app.stream(source).process(processor, name="p").to(out)
    return app, source, out


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (InInit, "InInit.__init__ makes a ValueState: declare states in the class"),
        (Twice, "a and b are one state"),
        (Misspelt, "has a method 'on_timers', which nothing calls: on_timer is meant"),
        (Camel, "which nothing calls: on_timer is meant"),
        (Annotated, "process is declared to return str, and .* ctx.emit"),
    ],
)
def test_a_processor_that_is_written_wrongly_is_refused(processor: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=f"processor 'p': .*{said}"):
        declared(processor)


def test_methods_of_its_own_are_free() -> None:
    declared(Helped)
    declared(OfAnEnum)


def test_a_state_is_seen_in_init_however_it_is_imported() -> None:
    from kstream import ValueState as Kept

    class Local(Base):
        def __init__(self) -> None:
            self.total = Kept(int, default=0)

        def process(self, value: str, ctx: Any) -> None: ...

    with pytest.raises(TopologyError, match="makes a ValueState"):
        declared(Local)


@pytest.mark.parametrize("returned", [None, type(None), "None", "typing.Any", "t.NoReturn", object, "object", Any])
def test_what_says_that_nothing_comes_back_may_be_written(returned: Any) -> None:
    class Said(Base):
        def process(self, value: str, ctx: Any) -> None: ...

    Said.process.__annotations__["return"] = returned
    declared(Said)


def test_what_process_returns_fails_its_record() -> None:
    class Returns(Base):
        def process(self, value, ctx):  # type: ignore[no-untyped-def]
            return None if value == "fine" else value

    app, source, _ = declared(Returns)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "fine", key="k")
        with pytest.raises(ProcessingError, match=r"offset 1: .*returned a value, which goes nowhere: ctx.emit"):
            driver.send(source, "lost", key="k")
            driver.process()


@pytest.mark.parametrize("kind", ["list", "map"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("assigned", [False, True])
def test_a_copy_of_a_state_that_is_changed_and_not_assigned_is_noticed(kind: str, before: bool, assigned: bool) -> None:
    class Changes(Base):
        items = kstream.ListState(str)
        counts = kstream.MapState(str, int)

        def process(self, value: str, ctx: Any) -> None:
            if value == "first":
                self.items.append("a")
                self.counts["a"] = 1
                return
            if kind == "list":
                items = self.items.value
                items.append(value)
                if assigned:
                    self.items.value = items
            else:
                counts = self.counts.value
                counts[value] = 1
                if assigned:
                    self.counts.value = counts

    app, source, _ = declared(Changes)
    driver = TestDriver(app, partitions=1)
    if before:
        driver.send(source, "first", key="k")
        driver.commit()
    driver.send(source, "lost", key="k")
    if assigned:
        driver.close()
    else:
        with pytest.raises(KStreamError, match="changed in place and not assigned"):
            driver.close()


def test_durations_without_a_unit_and_none_are_refused_with_what_to_write() -> None:
    app = kstream.App("units")
    one, other = (app.topic(name, key=str, value=str) for name in ("one", "other"))
    stream, grace = app.stream(one), timedelta(0)
    windowed: Any = stream.group_by_key().window
    calls: list[Any] = [
        lambda given: windowed(kstream.Tumbling(minutes=1), grace=given),
        lambda given: windowed(kstream.Session(minutes=1), grace=given),
        lambda given: windowed(kstream.Tumbling(minutes=1, offset=given), grace=grace),
        lambda given: stream.deduplicate(within=given),
        lambda given: stream.join(app.stream(other), lambda a, _: a, within=timedelta(1), grace=given, name="j"),
    ]
    for call in calls:
        for given in (None, 5, 0.5):
            with pytest.raises(TopologyError, match=r"timedelta\(seconds=10\)"):
                call(given)


def test_a_topic_is_no_side_of_a_join() -> None:
    app = kstream.App("sides")
    one, other = (app.topic(name, key=str, value=str) for name in ("one", "other"))
    with pytest.raises(TopologyError, match=r"topic 'other' is read as a stream: join app.stream\(topic\)"):
        app.stream(one).join(other, lambda a, _: a)  # type: ignore[call-overload]


def test_a_sum_of_none_says_so() -> None:
    app = kstream.App("sums")
    source = app.topic("in", key=str, value=str, partitions=1)
    nothing: Any = lambda value: None  # noqa: E731
    app.stream(source).group_by_key().sum(nothing, value=int)
    with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="sum got None"):
        driver.send(source, "x", key="k")
        driver.process()


def test_an_agent_with_plain_keys_does_not_read_a_table_of_windows() -> None:
    app = kstream.App("agents")
    source = app.topic("in", key=str, value=str, partitions=1)
    other = app.topic("other", key=kstream.Windowed[str], value=str, partitions=1)
    windows = app.stream(source).group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(0)).count(name="w")
    app.agent(other, tables=[windows], name="fine")(lambda value: None)
    app.topology()
    app.agent(source, tables=[windows], name="plain")(lambda value: None)
    with pytest.raises(TopologyError, match=r"agent 'plain' reads 'w', whose keys are Windowed, .*of type str"):
        app.topology()
