"""A service that joins a stream with a table: workers load it as `faults.joining_service:app`."""

from __future__ import annotations

import os

import kstream
from faults import injection


def joined(order: int, rate: int | None) -> list[int]:
    return [order, -1 if rate is None else rate]


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    orders = app.topic(f"{name}.orders", key=str, value=int, partitions=2)
    rates = app.topic(f"{name}.rates", key=str, value=int | None, partitions=2)
    changes = app.topic(f"{name}.changes", key=str, value=int | None, partitions=2)
    inner = app.topic(f"{name}.inner", key=str, value=list[int], partitions=2)
    left = app.topic(f"{name}.left", key=str, value=list[int], partitions=2)
    table = app.stream(rates).to_table("rates")
    table.to(changes)
    app.stream(orders).join(table, joined).to(inner)
    app.stream(orders).rekey(lambda order: f"k{order % 7}").join(table, joined, how="left", name="moved").to(left)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "joining"))
injection.install()
