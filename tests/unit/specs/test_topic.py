"""Event time, from a field or a function, as milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Generic, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pytest

import kstream
from kstream.errors import KStreamError, TopologyError
from kstream.specs.topic import event_time
from kstream.testing import TestDriver

T = TypeVar("T")
AT = datetime(2013, 1, 1, 5, 15, 0, 250_000, tzinfo=UTC)
MS = 1_357_017_300_250


@dataclass
class Flight:
    at: Any


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (AT, MS),
        (AT.replace(tzinfo=None), MS),
        (AT.astimezone(timezone(timedelta(hours=-5))), MS),
        (MS, MS),
        (float(MS), MS),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1000),
        (datetime(1970, 1, 1, 0, 0, 1, 1_000, tzinfo=UTC), 1001),  # as seconds, times 1000, it is 1000.9999999999999
        (datetime(2038, 12, 18, 17, 29, 15, 101_000, tzinfo=UTC), 2_176_306_155_101),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999),
    ],
)
def test_a_field_or_a_function(time: Any, expected: int) -> None:
    assert event_time("at", "in")(Flight(time)) == expected
    assert event_time("at", "in")({"at": time}) == expected
    assert event_time(lambda value: value, "in")(time) == expected


def none(value: Any) -> Any:
    return value["nothing"]


@pytest.mark.parametrize(
    ("timestamp", "value", "match"),
    [
        ("at", Flight(None), "timestamp='at' of topic 'in' is None: a datetime or ms since the epoch is needed"),
        ("at", Flight("noon"), "timestamp='at' of topic 'in' is 'noon': a datetime"),
        ("at", Flight(float("nan")), "timestamp='at' of topic 'in' is nan: a datetime"),
        ("att", Flight(1), "timestamp='att' of topic 'in': AttributeError: .* has no attribute 'att'"),
        ("att", {"at": 1}, "timestamp='att' of topic 'in': KeyError: 'att'"),
        (none, {"at": 1}, "timestamp=none of topic 'in': KeyError: 'nothing'"),
        (lambda value: None, {}, "timestamp=<lambda> of topic 'in' is None"),
    ],
)
def test_what_is_no_time_says_whose_it_is(timestamp: Any, value: Any, match: str) -> None:
    with pytest.raises(KStreamError, match=match):
        event_time(timestamp, "in")(value)


class Struct(msgspec.Struct):
    at: int
    renamed: int = msgspec.field(default=0, name="other")

    @property
    def seconds(self) -> int:
        return self.at * 1000


class Sub(Struct):
    more: int = 0


class Other(msgspec.Struct, tag=True):
    at: int


class Third(msgspec.Struct, tag=True):
    time: int


class Boxed(msgspec.Struct, Generic[T]):
    at: T


class Typed(TypedDict):
    at: int


class More(Typed, total=False):
    late: int


class Named(NamedTuple):
    at: int


class Codec:
    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return None


FITS = [
    (Flight, "at"), (Struct, "at"), (Struct, "renamed"), (Struct, "seconds"), (Sub, "at"), (Sub, "more"), (Typed, "at"),
    (More, "at"), (More, "late"), (Named, "at"), (Boxed[int], "at"), (Flight | None, "at"),
    (Other | Third | None, "__class__"), (Annotated[Struct, "x"], "at"), (NewType("New", Struct), "at"),
    (dict, "at"), (dict[str, int], "at"), (Any, "at"), (None, "at"), (Codec(), "at"), (int, lambda value: value),
]  # fmt: skip
DOES_NOT = [
    (Flight, "att", "Flight has no field 'att': it has at"),
    (Struct, "other", "Struct has no field 'other': it has at, renamed"),
    (Sub, "nothing", "Sub has no field 'nothing': it has at, renamed, more"),
    (More, "att", "More has no field 'att': it has at, late"),
    (Named, "att", "Named has no field"),
    (Boxed[int], "att", "Boxed has no field 'att': it has at"),
    (Flight | None, "att", "Flight has no field"),
    (Other | Third | None, "at", "Third has no field 'at': it has time"),
    (Annotated[Struct, "x"], "att", "Struct has no field"),
    (NewType("New", Struct), "att", "Struct has no field"),
    (str, "at", "str has no field 'at'"),
    (list[int], "at", "list has no field 'at'"),
]


@pytest.mark.parametrize(("kind", "timestamp"), FITS)
def test_a_field_that_is_there_or_may_be(kind: Any, timestamp: Any) -> None:
    kstream.App("t").topic("in", value=kind, timestamp=timestamp)


@pytest.mark.parametrize(("kind", "timestamp", "match"), DOES_NOT)
def test_a_misspelt_field_is_refused_where_it_is_declared(kind: Any, timestamp: str, match: str) -> None:
    with pytest.raises(TopologyError, match=f"topic 'in': timestamp='{timestamp}', but {match}"):
        kstream.App("t").topic("in", value=kind, timestamp=timestamp)


def test_it_is_a_name_or_a_function() -> None:
    wrong: Any = 5
    with pytest.raises(TopologyError, match="topic 'in': timestamp=5 is neither a field's name nor a function"):
        kstream.App("t").topic("in", timestamp=wrong)


@pytest.mark.parametrize("timestamp", ["at", lambda value: value["at"]])
def test_outputs_carry_the_event_time(timestamp: Any) -> None:
    app = kstream.App("times")
    source = app.topic("in", key=str, timestamp=timestamp)
    out, counts, sent = (app.topic(name, key=str) for name in ("out", "counts", "sent"))
    stream = app.stream(source).filter(lambda value: value["keep"])
    stream.to(out)
    stream.group_by_key().count(name="n", emit="commit").to(counts)
    app.agent(stream)(lambda value, ctx: ctx.send(sent, ctx.timestamp))
    with TestDriver(app, partitions=1) as driver:
        for n, keep in enumerate((True, True, False)):
            driver.send(source, {"at": MS + n, "keep": keep}, key="k", timestamp=5)
        assert [record.timestamp for record in driver.records(out)] == [MS, MS + 1]
        assert [record.value for record in driver.records(sent)] == [MS, MS + 1]
        assert [record.timestamp for record in driver.records(counts)] == [MS + 1]


@pytest.mark.parametrize(
    ("at", "told"), [(1_767_225_600, 1), (1_767_225_600.5, 1), (1_767_225_600_000, 0), (60_000, 0)]
)
def test_times_that_look_like_seconds_are_told_once(at: float, told: int, caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("seconds")
    topic = app.topic(f"in-{at}", key=str, value=dict, timestamp="at")
    app.stream(topic).peek(lambda value: None)
    with TestDriver(app, partitions=1) as driver:
        for _ in range(2):
            driver.send(topic, {"at": at}, key="a")
    lines = [line for line in caplog.messages if "if these are seconds" in line]
    assert len(lines) == told and all("is 1970-01-21" in line for line in lines)
