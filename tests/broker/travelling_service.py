"""A service that joins orders with prices behind a rekey: workers load it as `broker.travelling_service:app`."""

from __future__ import annotations

import os

import kstream


def billed(order: str, price: str | None) -> str:
    return f"{order}@{price}"


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    orders, prices, out = (
        app.topic(f"{name}.{topic}", key=str, value=str, partitions=2) for topic in ("orders", "prices", "out")
    )
    table = app.stream(prices).to_table("prices")
    app.stream(orders).rekey(lambda order, ctx: ctx.key, key=str).join(table, billed, how="left", name="billed").to(out)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "travelling"))
