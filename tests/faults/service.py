"""A small service with every kind of state, run by real workers: what tests/faults kills and tests/support audits.

Workers load it as `faults.service:app`. Name, partitions and slowness come from the environment, for workers inherit
that; which fault strikes where says `faults.injection`. While the file `poison` is there, some records fail as it says.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

import kstream
from faults import injection

THRESHOLD = 500
EVERY = 97
"""Of so many events the agent waits at one, and one is poisoned."""


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


def poison(number: int) -> str:
    """How this event is to fail: "raise", "refuse", or not at all."""
    if number % EVERY != EVERY - 1:
        return ""
    file = Path(os.environ.get("KSTREAM_TEST_DIR", ""), "poison")
    return file.read_text() if file.exists() else ""


def stand() -> None:
    """Does not return."""
    time.sleep(100_000)


def make_app(name: str, partitions: int) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=Event, partitions=partitions)
    counts = app.topic(f"{name}.counts", key=str, value=Running, partitions=partitions)
    alerts = app.topic(f"{name}.alerts", key=str, value=Alert, partitions=partitions)
    groups = app.topic(f"{name}.groups", key=str, value=Running, partitions=partitions)
    latest = app.topic(f"{name}.latest", key=str, value=Running, partitions=partitions)
    marks = app.topic(f"{name}.marks", key=str, value=int, partitions=1, config={"cleanup.policy": "compact"})
    spent = app.table("spent", key=str, value=int, default=int)
    stream = app.stream(events)

    stream.group_by_key().aggregate(Running, add, name="per-key").to(counts)
    stream.group_by_key().aggregate(Running, add, name="latest", emit="commit").to(latest)
    stream.group_by(lambda event: event.group, key=str, name="by-group").aggregate(
        Running, add, name="per-group"
    ).to(groups)  # fmt: skip

    pause = float(os.environ.get("KSTREAM_TEST_PAUSE", "0"))
    wait = float(os.environ.get("KSTREAM_TEST_WAIT", "0"))

    @app.agent(events, to=alerts)
    async def watch(events: kstream.AgentStream[str, Event], ctx: kstream.Context[str]) -> AsyncIterator[Alert]:
        """An alert each time what a key has spent passes a multiple of the threshold."""
        async for key, event, *_ in events.events():
            if os.environ.get("KSTREAM_TEST_STAND"):
                stand()
            if pause:
                await asyncio.sleep(pause)
            before = spent[key]
            spent[key] = before + event.amount
            if wait and event.number % EVERY == 0:
                injection.here("waiting", "before")
                await asyncio.sleep(wait)
                injection.here("waiting", "after")
            failing = poison(event.number)
            if failing == "refuse":
                ctx.send(marks, event.number, key=None)  # the topic is compacted
            elif failing:
                raise ValueError(f"event {event.number} is poisoned")
            if (before + event.amount) // THRESHOLD > before // THRESHOLD:
                yield Alert(event.number, before + event.amount)

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "faults"), int(os.environ.get("KSTREAM_TEST_PARTITIONS", "4")))
injection.install()
