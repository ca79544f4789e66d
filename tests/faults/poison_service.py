"""A service that counts and passes on orders, for test_poison.py: workers load it as `faults.poison_service:app`.

An order may ask for a failure of each kind. Whatever fails, its record is to leave no trace in any of the outputs.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec

import kstream
from kstream.errors import RecordTooLarge

OVERSIZE = 50_000
YEAR_MS = 365 * 86_400_000


class Order(msgspec.Struct):
    """`ask`: how it is to fail. `note` is read by nobody."""

    number: int
    amount: int
    ask: str = ""
    note: Any = None


def make_app(name: str) -> kstream.App:
    # a bomb is not written once more, as a dead letter of 100 MB
    app = kstream.App(name, on_error=[kstream.Skip(on=(RecordTooLarge,)), kstream.DeadLetter()])
    orders = app.topic(f"{name}.orders", key=str, value=Order, partitions=2)
    doubles = app.topic(f"{name}.doubles", key=str, value=int, partitions=2)
    blobs = app.topic(f"{name}.blobs", key=str, value=bytes, partitions=2, config={"max.message.bytes": "20000"})
    totals = app.topic(f"{name}.totals", key=str, value=int, partitions=2, config={"cleanup.policy": "compact"})
    counts = app.topic(f"{name}.counts", key=str, value=int, partitions=2)
    total = app.table("total", key=str, value=int, default=int)

    stream = app.stream(orders)
    stream.filter(lambda order: order.amount % 2 == 0).map(lambda order: 2 * order.amount, value=int).to(doubles)
    stream.filter(lambda order: order.ask == "oversize" or order.number % 100 == 0).map(
        lambda order: os.urandom(OVERSIZE) if order.ask == "oversize" else b"%d" % order.number, value=bytes
    ).to(blobs)
    stream.group_by_key().count(name="count").to(counts)

    @app.agent(orders, to=totals)
    def book(order: Order, ctx: kstream.Context[str]) -> int | kstream.Record[str, int]:
        if order.ask == "exit":
            sys.exit(3)
        if order.ask == "keyless":
            return kstream.Record(None, order.amount)  # type: ignore[arg-type]  # the topic is compacted
        total[ctx.key] += order.amount
        if order.ask == "raise":
            raise ValueError(order.number)
        if order.ask == "late":
            return kstream.Record(ctx.key, total[ctx.key], timestamp=round(time.time() * 1000) + YEAR_MS)
        return total[ctx.key]

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "poison"))
