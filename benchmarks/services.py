"""The yardstick's job as kstream services, in the forms a user would write.

The child process loads `benchmarks.services:app`; which it is comes by the environment (`as_environment`), for every
run has topics and a group of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import kstream
from benchmarks.records import Bid, Total


def new_total() -> Total:
    return Total(0, 0, 0)


def add(total: Total, bid: Bid) -> Total:
    total.auction = bid.auction
    total.count += 1
    total.sum += bid.price
    return total


def dsl(name: str, source: str, emit: Any, ttl: kstream.TTL | None = None) -> kstream.App:
    """Typed values, an aggregation of the DSL."""
    app = kstream.App(name)
    bids = app.topic(source, key=int, value=Bid)
    totals = app.topic(f"{name}-out", key=int, value=Total)
    app.stream(bids).group_by_key().aggregate(new_total, add, name="totals", emit=emit, ttl=ttl).to(totals)
    return app


def update(name: str, source: str) -> kstream.App:
    return dsl(name, source, "update")


def ttl(name: str, source: str) -> kstream.App:
    """The first, with totals that expire."""
    return dsl(name, source, "update", kstream.TTL(hours=1))


def commit(name: str, source: str) -> kstream.App:
    return dsl(name, source, "commit")


def windowed(name: str, source: str) -> kstream.App:
    """Totals of each second, told when it closes: about as often as the yardstick commits."""
    app = kstream.App(name)
    bids = app.topic(source, key=int, value=Bid)
    totals = app.topic(f"{name}-out", key=kstream.Windowed[int], value=Total)
    seconds = app.stream(bids).group_by_key().window(kstream.Tumbling(seconds=1), grace=timedelta(0))
    seconds.aggregate(new_total, add, name="totals", emit="close").to(totals)
    return app


def agent(name: str, source: str) -> kstream.App:
    """The same as an async generator with a table."""
    app = kstream.App(name)
    bids = app.topic(source, key=int, value=Bid)
    out = app.topic(f"{name}-out", key=int, value=Total)
    totals = app.table("totals", key=int, value=Total, default=new_total)

    @app.agent(bids, to=out)
    async def tally(stream: kstream.AgentStream[int, Bid]) -> AsyncIterator[Total]:
        async for bid in stream:
            total = totals[bid.auction]
            total.auction = bid.auction
            total.count += 1
            total.sum += bid.price
            totals[bid.auction] = total
            yield total

    return app


def untyped(name: str, source: str) -> kstream.App:
    """The same without types: dicts in, dicts out."""
    app = kstream.App(name)
    bids = app.topic(source, key=int, value=dict)
    totals = app.topic(f"{name}-out", key=int, value=dict)

    def start() -> dict:  # type: ignore[type-arg]
        return {"auction": 0, "count": 0, "sum": 0}

    def fold(total: dict, bid: dict) -> dict:  # type: ignore[type-arg]
        total["auction"] = bid["auction"]
        total["count"] += 1
        total["sum"] += bid["price"]
        return total

    app.stream(bids).group_by_key().aggregate(start, fold, name="totals").to(totals)
    return app


KINDS = {
    "update": update, "ttl": ttl, "commit": commit, "windowed": windowed, "agent": agent, "untyped": untyped,
}  # fmt: skip


def as_environment(kind: str, name: str, source: str) -> dict[str, str]:
    return {"KSTREAM_BENCH_KIND": kind, "KSTREAM_BENCH_RUN": name, "KSTREAM_BENCH_SOURCE": source}


if "KSTREAM_BENCH_KIND" in os.environ:
    app = KINDS[os.environ["KSTREAM_BENCH_KIND"]](os.environ["KSTREAM_BENCH_RUN"], os.environ["KSTREAM_BENCH_SOURCE"])
