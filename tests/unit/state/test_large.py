"""Large entries: named in the log, and trimmed by the app's function before they are committed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import AbortRequired, ProcessingError, ProducerLost, TopologyError
from kstream.observe.throttle import Throttle
from kstream.testing import TestDriver
from unit.runtime.harness import Fleet

LOGGER = "kstream.state.large"


@pytest.fixture(autouse=True)
def unthrottled() -> Any:
    """Lines of other tests hold back none of these."""
    logger = logging.getLogger(LOGGER)
    before, logger.filters = logger.filters, [Throttle()]
    yield
    logger.filters = before


def make(on_large: Any = None, of_app: Any = None) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("carts", on_large_state=of_app)
    orders = app.topic("orders", key=str, value=str)
    carts = app.table("carts", key=str, value=list[str], default=list, on_large_state=on_large)

    @app.agent(orders)
    def fill(order: str, ctx: kstream.Context[str]) -> None:
        cart = carts[ctx.key]
        cart.append(order)
        carts[ctx.key] = cart

    return app, orders, carts


def last_two(key: str, cart: list[str]) -> list[str] | None:
    assert key == "ann"
    return cart[-2:]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


def test_a_large_entry_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app, orders, _ = make()
    with TestDriver(app, large_entry="100") as d:
        d.send(orders, "tea", key="bob")
        d.commit()
        assert not lines(caplog)
        d.send(orders, "x" * 120, key="ann")
        d.commit()
        assert lines(caplog) == [
            "table 'carts'['ann'] is large: 124B, more than large_entry (100B); on_large_state= may trim it"
        ]
        assert sum(task.stores["carts"].large.seen for task in d.worker.tasks.values()) == 1


@pytest.mark.parametrize("where", ["table", "app"])
def test_a_function_trims_it_before_the_commit(where: str, caplog: pytest.LogCaptureFixture) -> None:
    app, orders, carts = make(**{"on_large" if where == "table" else "of_app": last_two})
    with TestDriver(app, large_entry="100") as d:
        for n in range(40):
            d.send(orders, f"item {n:04}", key="ann")
            d.commit()
        assert len(d.table(carts)["ann"]) < 11
        assert d.table(carts)["ann"][-1] == "item 0039"
        stored = d.cluster.records("carts-carts-changelog")
        assert len(stored) == 40 and max(len(record.value or b"") for record in stored) <= 100
        d.send(orders, "next", key="ann")  # the trimmed value is what is live too
        d.commit()
        assert d.table(carts)["ann"][-2:] == ["item 0039", "next"]
    assert not lines(caplog)


def test_it_is_asked_once_for_each_commit_and_may_leave_the_value() -> None:
    asked: list[tuple[str, int]] = []

    def look(key: str, cart: list[str]) -> None:
        asked.append((key, len(cart)))

    app, orders, carts = make(look)
    with TestDriver(app, large_entry="100") as d:
        d.send(orders, "x" * 60, key="ann")
        d.send(orders, "x" * 60, key="ann")
        d.commit()
        d.send(orders, "x", key="bob")
        d.commit()
        assert d.table(carts)["ann"] == ["x" * 60] * 2
    assert asked == [("ann", 2)]


def test_what_is_still_large_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app, orders, _ = make(lambda key, cart: ["y" * 200])
    with TestDriver(app, large_entry="100") as d:
        d.send(orders, "x" * 120, key="ann")
        d.commit()
    assert lines(caplog) == ["table 'carts'['ann'] is large: 204B, more than large_entry (100B)"]


@pytest.mark.parametrize(
    ("trim", "why"),
    [
        (lambda key, cart: 1 / 0, r"table 'carts'\['ann'\]: on_large_state failed: ZeroDivisionError"),
        (lambda key, cart: "text", r"table 'carts'\['ann'\]: a value of type str cannot be kept as list"),
    ],
    ids=["raises", "type"],
)
def test_a_function_that_fails_is_a_failure_of_the_record(trim: Any, why: str) -> None:
    app, orders, _ = make(trim)
    with pytest.raises(ProcessingError, match=why), TestDriver(app, large_entry="100") as d:
        d.send(orders, "x" * 120, key="ann")
        d.commit()


def test_what_is_no_function_of_two_is_refused_where_it_is_declared() -> None:
    app = kstream.App("carts")
    with pytest.raises(TopologyError, match="on_large_state"):
        app.table("carts", key=str, value=list[str], on_large_state="trim")
    with pytest.raises(TopologyError, match="on_large_state"):
        kstream.App("carts", on_large_state=lambda value: value)


class Cart(msgspec.Struct):
    """Orders that were folded into a number by a trim, and those since."""

    folded: int = 0
    orders: list[str] = []


def fold(_: str, cart: Cart) -> Cart:
    return Cart(cart.folded + len(cart.orders) - 1, cart.orders[-1:])


@pytest.mark.parametrize("call", ["produce", "send_offsets", "commit"])
@pytest.mark.parametrize(
    ("error", "after"),
    [(AbortRequired, False), (ProducerLost, False), (ProducerLost, True)],
    ids=["abort", "lost-before", "lost-after"],
)
def test_it_is_trimmed_exactly_once_whatever_fails(
    tmp_path: Path, error: type[Exception], call: str, after: bool
) -> None:
    """What a trim has folded is neither lost nor counted twice where the commit that it was part of fails."""
    app = kstream.App("carts", on_large_state=fold)
    orders = app.topic("orders", key=str, value=str)
    carts = app.table("carts", key=str, value=Cart, default=Cart)

    @app.agent(orders)
    def fill(order: str, ctx: kstream.Context[str]) -> None:
        cart = carts[ctx.key]
        carts[ctx.key] = Cart(cart.folded, [*cart.orders, order])

    fleet = Fleet(app, tmp_path, partitions=1, large_entry="100")
    fleet.start("a")
    fleet.settle()
    sent = 0
    for turn in range(12):
        for _ in range(3):
            fleet.send(orders, ["ann"], f"order {sent:02}")
            sent += 1
        if turn % 3 == 2:
            fleet.cluster.fail_next(call, error("planned"), after=after)
        fleet.settle()
    local, stored = fleet.stores("carts"), [one.value for one in fleet.cluster.records("carts-carts-changelog")]
    fleet.close()
    assert local == fleet.changelog("carts")
    last = msgspec.json.decode(stored[-1] or b"", type=Cart)
    assert last.folded + len(last.orders) == sent and last.folded > 0
    assert all(len(value or b"") <= 100 for value in stored)
