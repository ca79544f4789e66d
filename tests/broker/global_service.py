"""Orders that find a global table, for test_global_tables.py and faults: `broker.global_service:app`."""

from __future__ import annotations

import os

import kstream


def priced(order: str, price: str | None) -> str:
    return f"{order}-{price}"


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    prices = app.topic(f"{name}.prices", key=str, value=str | None, partitions=5)
    orders = app.topic(f"{name}.orders", key=str, value=str, partitions=2)
    found = app.topic(f"{name}.found", key=str, value=str, partitions=2)
    counts = app.topic(f"{name}.counts", key=str, value=int, partitions=2)
    table = app.global_table(prices, name="prices")
    app.stream(orders).join(table, priced, on=lambda order: order.partition("|")[2], how="left").to(found)

    @app.agent(orders, to=counts)
    def count(order: str) -> int:
        return len(table)

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "global"))
