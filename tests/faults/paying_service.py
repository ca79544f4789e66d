"""A service that joins two streams by time, behind repartition topics: workers load it as `faults.paying_service:app`.
Values are an order and an event time in ms; the key of both is the order's."""

from __future__ import annotations

import os
from datetime import timedelta

import kstream
from faults import injection

WITHIN_MS, PARTITIONS = 500, 2


def order_of(event: list[int]) -> int:
    return event[0]


def time_of(event: list[int]) -> int:
    return event[1]


def pay(order: list[int], payment: list[int] | None) -> list[int]:
    return [order[0], -1 if payment is None else payment[1]]


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    orders, payments = (
        app.topic(f"{name}.{topic}", key=str, value=list[int], partitions=PARTITIONS, timestamp=time_of)
        for topic in ("orders", "payments")
    )
    paid = app.topic(f"{name}.paid", key=int, value=list[int], partitions=2)
    left, right = (app.stream(topic).rekey(order_of) for topic in (orders, payments))
    within = timedelta(milliseconds=WITHIN_MS)
    bounds = timedelta(0), within
    left.join(right, pay, within=bounds, grace=timedelta(0), how="left", name="paid").to(paid)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "paying"))
injection.install()
