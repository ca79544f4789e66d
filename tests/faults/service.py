"""A small service with every kind of state, run by real workers: what tests/faults kills and tests/support audits.

Workers load it as `faults.service:app`. Name, partitions and slowness come from the environment, for workers inherit
that; which fault strikes where says `faults.injection`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import msgspec

import kstream
from faults import injection

THRESHOLD = 500


class Event(msgspec.Struct):
    """`number` counts within all that was fed; `group` is what the repartition goes by."""

    number: int
    group: str
    amount: int


class Running(msgspec.Struct):
    """`last` is the number of the latest event folded in."""

    count: int = 0
    total: int = 0
    last: int = -1


class Alert(msgspec.Struct):
    number: int
    spent: int


def add(running: Running, event: Event) -> Running:
    """Changes its accumulator in place, as folds may."""
    injection.here("processing", "before")
    running.count += 1
    running.total += event.amount
    running.last = event.number
    injection.here("processing", "after")
    return running


def make_app(name: str, partitions: int) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=Event, partitions=partitions)
    counts = app.topic(f"{name}.counts", key=str, value=Running, partitions=partitions)
    alerts = app.topic(f"{name}.alerts", key=str, value=Alert, partitions=partitions)
    groups = app.topic(f"{name}.groups", key=str, value=Running, partitions=partitions)
    latest = app.topic(f"{name}.latest", key=str, value=Running, partitions=partitions)
    spent = app.table("spent", key=str, value=int, default=int)
    stream = app.stream(events)

    stream.group_by_key().aggregate(Running, add, name="per-key").to(counts)
    stream.group_by_key().aggregate(Running, add, name="latest", emit="commit").to(latest)
    stream.group_by(lambda event: event.group, key=str, name="by-group").aggregate(
        Running, add, name="per-group"
    ).to(groups)  # fmt: skip

    pause = float(os.environ.get("KSTREAM_TEST_PAUSE", "0"))

    @app.agent(events, to=alerts)
    async def watch(events: kstream.AgentStream[str, Event]) -> AsyncIterator[Alert]:
        """An alert each time what a key has spent passes a multiple of the threshold."""
        async for key, event, *_ in events.events():
            if pause:
                await asyncio.sleep(pause)
            before = spent[key]
            spent[key] = before + event.amount
            if (before + event.amount) // THRESHOLD > before // THRESHOLD:
                yield Alert(event.number, before + event.amount)

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "faults"), int(os.environ.get("KSTREAM_TEST_PARTITIONS", "4")))
injection.install()
