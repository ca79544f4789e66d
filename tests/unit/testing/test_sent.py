"""What a test sends first has arrived when it sends the next record, behind a repartition topic too."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver


def joined(travels: list[str]) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("sent")
    prices, orders = (app.topic(name, key=str, value=int) for name in ("prices", "orders"))
    out = app.topic("out", key=str, value=str)
    streams = {"prices": app.stream(prices), "orders": app.stream(orders)}
    for name in travels:
        streams[name] = streams[name].rekey(lambda _: "k", key=str).repartition(name=f"by-{name}")
    table = streams["prices"].to_table("price")
    streams["orders"].join(table, lambda order, price: f"{order} at {price}", how="left", value=str).to(out)
    return app, prices, orders, out


@pytest.mark.parametrize("between", ["", "crash", "commit"])
@pytest.mark.parametrize("timestamp", [None, 1_700_000_000_000])
@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("travels", [[], ["prices"], ["orders"], ["prices", "orders"]], ids=" and ".join)
def test_an_order_finds_the_price_that_was_sent_before_it_and_no_later_one(
    travels: list[str], partitions: int, timestamp: int | None, between: str
) -> None:
    app, prices, orders, out = joined(travels)
    with TestDriver(app, partitions=partitions) as d:
        for n in (1, 2):
            d.send(prices, 5 * n, key="k", timestamp=timestamp)
            d.send(orders, n, key="k", timestamp=timestamp)
            if between and (travels or between == "commit"):  # taken back together, those of one time have no order
                getattr(d, between)()
        d.send_raw(prices, b"99", key=b"k", timestamp=timestamp)
        assert d.values(out) == ["1 at 5", "2 at 10"]


def test_what_was_sent_last_is_not_committed_yet() -> None:
    app, prices, orders, out = joined(["prices"])
    with TestDriver(app, partitions=1) as d:
        d.send(prices, 5, key="k")
        d.send(orders, 1, key="k")
        d.send(orders, 2, key="k")
        assert d.cluster.records("out") == []
        d.crash()
        assert d.values(out) == ["1 at 5", "2 at 5"]


def test_elsewhere_nothing_is_committed() -> None:
    app, prices, orders, _ = joined([])
    with TestDriver(app, partitions=1) as d:
        for topic in (prices, orders, prices):
            d.send(topic, 1, key="k")
        assert d.worker.commits == 0
