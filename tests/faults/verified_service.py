"""One app with most kinds of state, for the verifier (test_verification.py): workers load it as
`faults.verified_service:app`. What it must come to is in tests/support/verification.py, which shares no code with it.

Its first part reads `readings` and `limits`, its second part what the first one sends on by another key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec

import kstream

PARTITIONS, GROUP_PARTITIONS = 6, 4
WINDOW_MS, OUT_OF_ORDER_MS = 5_000, 2_000
WAITS_AT, ALERT_EVERY = 997, 3


class Reading(msgspec.Struct):
    """`number` counts within all that was written, what was aborted included."""

    number: int
    group: str
    amount: int


class Tally(msgspec.Struct):
    """`last` is the number of the latest reading folded in."""

    count: int = 0
    total: int = 0
    last: int = -1


class Alert(msgspec.Struct):
    number: int
    spent: int


def add(tally: Tally, reading: Reading) -> Tally:
    tally.count += 1
    tally.total += reading.amount
    tally.last = reading.number
    return tally


def amount(reading: Reading) -> int:
    return reading.amount


def checked(reading: Reading, limit: int | None) -> list[int]:
    return [reading.number, -1 if limit is None else limit]


def overview(count: int, limit: int | None) -> list[int]:
    return [count, -1 if limit is None else limit]


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)

    def topic(what: str, value: object, *, key: object = str, partitions: int = PARTITIONS) -> kstream.Topic:
        return app.topic(f"{name}.{what}", key=key, value=value, partitions=partitions)

    late = timedelta(milliseconds=OUT_OF_ORDER_MS)
    readings = app.topic(f"{name}.readings", key=str, value=Reading, partitions=PARTITIONS, out_of_order=late)
    limits = app.topic(f"{name}.limits", key=str, value=int, partitions=PARTITIONS, out_of_order=late)
    stream = app.stream(readings)
    by_key = stream.group_by_key()

    stream.to(topic("echo", Reading))
    counts = by_key.count(name="count")
    counts.to(topic("counts", int))
    by_key.sum(amount, name="sum").to(topic("sums", int))
    by_key.min(amount, name="min").to(topic("least", int))
    by_key.max(amount, name="max").to(topic("greatest", int))
    by_key.mean(amount, name="mean").to(topic("means", float))
    by_key.aggregate(Tally, add, name="latest", emit="commit").to(topic("latest", Tally))

    limit_of = app.stream(limits).to_table("limit")
    stream.join(limit_of, checked, how="left").to(topic("checked", list[int]))
    counts.join(limit_of, overview, how="left", name="overview").to(topic("overview", list[int] | None))

    by_group = stream.group_by(lambda reading: reading.group, key=str, name="by-group", parallelism=GROUP_PARTITIONS)
    by_group.aggregate(Tally, add, name="per-group").to(topic("groups", Tally, partitions=GROUP_PARTITIONS))
    windows = by_group.window(kstream.Tumbling(timedelta(milliseconds=WINDOW_MS)), grace=timedelta(0))
    windows.count(name="per-window", emit="close").to(
        topic("windows", int, key=kstream.Windowed[str], partitions=GROUP_PARTITIONS)
    )

    spent = app.table("spent", key=str, value=int, default=int)

    @app.agent(readings, to=topic("alerts", Alert))
    async def watch(events: kstream.AgentStream[str, Reading]) -> AsyncIterator[Alert]:
        """Waits for something outside now and then."""
        async for key, reading, *_ in events.events():
            spent[key] += reading.amount
            if reading.number % WAITS_AT == 0:
                await asyncio.sleep(0.05)
            if reading.number % ALERT_EVERY == 0:
                yield Alert(reading.number, spent[key])

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "verified"))
