"""Event time, from a field or a function, as milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import kstream
from kstream.specs.topic import event_time
from kstream.testing import TestDriver

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
    ],
)
def test_a_field_or_a_function(time: Any, expected: int) -> None:
    assert event_time("at")(Flight(time)) == expected
    assert event_time("at")({"at": time}) == expected
    assert event_time(lambda value: value)(time) == expected


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
