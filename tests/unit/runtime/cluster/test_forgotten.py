"""Delay topics that nothing reads any more are told of while they have records."""

from __future__ import annotations

from typing import Any

import kstream
from kstream.runtime.cluster.forgotten import forgotten
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryClients


def app_of(*delays: float) -> kstream.App:
    app = kstream.App("shop", on_error=[kstream.RetryLater(delays)] if delays else [])

    def fails(n: int) -> None:
        raise ConnectionError(n)

    app.stream(app.topic("orders", key=str, value=int, partitions=2)).peek(fails)
    return app


def lines(driver: TestDriver, app: kstream.App) -> Any:
    return forgotten(app.topology(), MemoryClients(driver.cluster).admin(), 1.0)


def test_a_topic_that_is_not_read_any_more_is_told_of_while_it_has_records() -> None:
    with TestDriver(app_of(5, 60)) as driver:
        driver.cluster.create_topic("shop-orders-retry-forever")
        driver.cluster.create_topic("shop-other-retry-5s")
        driver.cluster.append("shop-other-retry-5s", None, b"1")
        driver.cluster.append("orders", b"k", b"1")
        driver.commit()
        assert lines(driver, app_of(5, 60)) == []
        (line,) = lines(driver, app_of(60))
        assert line.startswith("topic shop-orders-retry-5s may have records of orders that were set aside")
        assert lines(driver, app_of()) == [line]
        driver.advance(5)
        driver.advance(1)
        assert [one.split()[1] for one in lines(driver, app_of())] == ["shop-orders-retry-60s"]
