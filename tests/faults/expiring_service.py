"""A service whose state expires in event time: workers load it as `faults.expiring_service:app`. Values are times."""

from __future__ import annotations

import os

import kstream
from faults import injection

TTL_MS = 1000
ROUND_MS = 600
"""Of the carts: what was written two rounds ago has expired."""


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=int, partitions=2, timestamp=lambda at: at)
    counts = app.topic(f"{name}.counts", key=str, value=int, partitions=2)
    ttl = kstream.TTL(seconds=TTL_MS / 1000, time="event", cleanup=(kstream.Sweep(most=3),))
    app.stream(events).group_by_key().count(name="bursts", ttl=ttl).to(counts)
    return app


def make_carts(name: str) -> kstream.App:
    """A cart for each key. Each event writes two of its entries: one that each round has, and one of three in turn."""
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=int, partitions=2, timestamp=lambda at: at)
    shown = app.topic(f"{name}.carts", key=str, value=dict[str, int], partitions=2)
    ttl = kstream.TTL(seconds=TTL_MS / 1000, time="event", per="entry", cleanup=(kstream.Sweep(most=3),))
    carts = app.table("carts", key=str, value=dict[str, int], default=dict, ttl=ttl)

    @app.agent(events, to=shown)
    def fill(at: int, ctx: kstream.Context[str]) -> dict[str, int]:
        cart = carts[ctx.key]
        for item in ("all", f"r{at // ROUND_MS % 3}"):
            cart[item] = cart.get(item, 0) + 1
        carts[ctx.key] = cart
        return dict(cart)

    return app


carts = make_carts(os.environ.get("KSTREAM_TEST_APP", "expiring"))
app = make_app(os.environ.get("KSTREAM_TEST_APP", "expiring"))
injection.install()
