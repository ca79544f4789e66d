"""Lengths of time that never end are refused where they are declared, whatever they are of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError
from kstream.specs.fields import LONGEST, whole_milliseconds

EVER = timedelta.max
DAYS = timedelta(days=999_999_999)
MS = timedelta(milliseconds=1)
MINUTE = kstream.Tumbling(minutes=1)


def join(app: kstream.App, topic: Any, **of: Any) -> object:
    other = app.topic("other", key=str, value=int)
    return app.stream(topic).join(app.stream(other), lambda one, two: one, name="joined", **of)


DECLARED: list[tuple[Callable[[kstream.App, Any], object], str]] = [
    (lambda app, topic: kstream.Tumbling(EVER), "Tumbling: size="),
    (lambda app, topic: kstream.Tumbling(days=999_999_999), "Tumbling: size="),
    (lambda app, topic: kstream.Tumbling(MS, offset=-DAYS), "Tumbling: offset="),
    (lambda app, topic: kstream.Hopping(minutes=1, every=EVER), "Hopping: every="),
    (lambda app, topic: kstream.Cumulating(minutes=1, step=EVER), "Cumulating: step="),
    (lambda app, topic: kstream.Session(EVER), "Session: gap="),
    (lambda app, topic: kstream.Sliding(EVER), "Sliding: size="),
    (lambda app, topic: kstream.KafkaSliding(EVER), "KafkaSliding: difference="),
    (lambda app, topic: kstream.LocalDays("UTC", offset=EVER), "LocalDays: offset="),
    (lambda app, topic: app.stream(topic).group_by_key().window(MINUTE, grace=EVER), "window: grace="),
    (lambda app, topic: app.stream(topic).group_by_key().window(kstream.Session(MS), grace=EVER), "window: grace="),
    (lambda app, topic: app.stream(topic).group_by_key().window(kstream.Sliding(MS), grace=EVER), "window: grace="),
    (lambda app, topic: app.stream(topic).group_by_key().window(MINUTE, grace=MS, early=EVER), "window: early="),
    (lambda app, topic: app.stream(topic).to_table("t", history=EVER), "table 't': history="),
    (lambda app, topic: app.stream(topic).to_table("t").suppress(EVER, name="s"), "suppress 's': after="),
    (lambda app, topic: app.stream(topic).deduplicate(within=EVER, name="d"), "deduplicate 'd': within="),
    (lambda app, topic: app.topic("late", key=str, value=int, out_of_order=EVER), "topic 'late': out_of_order="),
    (lambda app, topic: join(app, topic, within=EVER, grace=MS), "within="),
    (lambda app, topic: join(app, topic, within=(-MS, EVER), grace=MS), "within="),
    (lambda app, topic: join(app, topic, within=MS, grace=EVER), "grace="),
]


@pytest.mark.parametrize(("declare", "of"), DECLARED)
def test_what_never_ends_is_refused(declare: Callable[[kstream.App, Any], object], of: str) -> None:
    app = kstream.App("ever")
    with pytest.raises(TopologyError) as error:
        declare(app, app.topic("in", key=str, value=int))
    text = str(error.value)
    assert of in text and "is longer than 10,000 years: nothing would ever be over" in text and "\n" not in text


def test_the_longest() -> None:
    assert whole_milliseconds(LONGEST, "it ") == 3_652_500 * 86_400_000
    assert whole_milliseconds(-LONGEST, "it ", least=None) == -3_652_500 * 86_400_000
    for one in (LONGEST + MS, -LONGEST - MS):
        with pytest.raises(TopologyError, match="longer than 10,000 years"):
            whole_milliseconds(one, "it ", least=None)
