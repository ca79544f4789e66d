"""The service, through the TestDriver, against the API over HTTP."""

from __future__ import annotations

from typing import Any

from kstream.testing import TestDriver
from services.payments.api import PaymentApi
from services.payments.app import Payment, orders, payments
from services.payments.client import Order

LETTERS = "payments-dead-letters"


def send(driver: TestDriver, *numbers: int, customer: str = "ann") -> None:
    for number in numbers:
        driver.send(orders, Order(number, customer, 100 * number), key=customer)


def paid(driver: TestDriver) -> list[int]:
    return [payment.order for payment in driver.values(payments)]


def letters(driver: TestDriver) -> list[tuple[bytes | None, bytes | None, dict[str, Any]]]:
    driver.commit()
    return [(row.key, row.value, dict(row.headers or ())) for row in driver.cluster.records(LETTERS)]


def test_each_order_is_charged_and_put_out(driver: TestDriver, api: PaymentApi) -> None:
    send(driver, 1, 2)
    assert [(record.key, record.value) for record in driver.records(payments)] == [
        ("ann", Payment(1, 100, "charge-1")),
        ("ann", Payment(2, 200, "charge-2")),
    ]
    assert {name: order.number for name, order in api.charges.items()} == {"charge-1": 1, "charge-2": 2}


def test_an_order_is_tried_again_and_those_behind_it_wait(driver: TestDriver, api: PaymentApi) -> None:
    send(driver, 1)
    driver.commit()
    api.down = True
    send(driver, 2, 4)
    assert paid(driver) == [1]
    asked = api.asked[2]
    driver.advance(0.05)
    assert paid(driver) == [1] and api.asked[2] == asked, "the pause is 0.1 s"
    driver.advance(0.1)
    assert paid(driver) == [1] and api.asked[2] == asked + 1
    api.down = False
    driver.advance(0.25)
    assert paid(driver) == [1, 2, 4]
    assert api.asked[4] == 1 and not letters(driver)


def test_other_partitions_go_on_while_one_waits(driver: TestDriver, api: PaymentApi) -> None:
    api.down = True
    send(driver, 1)
    api.down = False
    customers = [f"c{n}" for n in range(20)]
    for number, customer in enumerate(customers, 100):
        send(driver, 20 * number, customer=customer)
    elsewhere = [record.key for record in driver.records(payments)]
    assert len(elsewhere) > 10 and "ann" not in elsewhere
    driver.advance(0.2)
    assert {record.key for record in driver.records(payments)} == {"ann", *customers}


def test_one_that_was_charged_though_the_answer_was_lost_is_charged_once(driver: TestDriver, api: PaymentApi) -> None:
    send(driver, 13)  # unavailable twice: a task makes sure of its first record that fails, so it asks twice at once
    assert paid(driver) == [] and list(api.charges) == ["charge-1"]
    driver.advance(0.2)
    assert driver.values(payments) == [Payment(13, 1300, "charge-1")]
    assert api.asked[13] == 3 and list(api.charges) == ["charge-1"]


def test_one_that_is_declined_is_set_aside_at_once(driver: TestDriver, api: PaymentApi) -> None:
    send(driver, 98, 99, 100)
    assert paid(driver) == [98, 100]
    ((key, value, headers),) = letters(driver)
    assert (key, value) == (b"ann", b'{"number":99,"customer":"ann","amount":9900}')
    assert headers["__streams.errors.exception"] == b"services.payments.client.Declined"
    assert headers["__streams.errors.message"] == b"order 99: 402 the card is declined"
    assert (headers["kstream.agent"], headers["kstream.attempts"]) == (b"agent charge", b"1")
    assert 99 not in {order.number for order in api.charges.values()}


def test_when_the_api_stays_away_orders_are_set_aside_after_three_more_tries(
    driver: TestDriver, api: PaymentApi
) -> None:
    api.down = True
    send(driver, 1)
    for pause in (0.2, 0.3, 0.6):
        assert not letters(driver)
        driver.advance(pause)
    ((_, _, headers),) = letters(driver)
    assert headers["__streams.errors.exception"] == b"services.payments.client.Unavailable"
    assert headers["kstream.attempts"] == b"4" and api.asked[1] == 5  # it was made sure of the first failure
    assert paid(driver) == []


def test_what_is_no_order_is_set_aside(driver: TestDriver, api: PaymentApi) -> None:
    driver.send_raw(orders, b"{}", key=b"ann")
    send(driver, 1)
    assert paid(driver) == [1]
    ((_, value, headers),) = letters(driver)
    assert (value, headers["kstream.phase"]) == (b"{}", b"decode")


def test_after_a_crash_an_order_is_asked_for_again_and_paid_once(driver: TestDriver, api: PaymentApi) -> None:
    send(driver, 1, 2)
    driver.crash()
    assert driver.values(payments) == [Payment(1, 100, "charge-1"), Payment(2, 200, "charge-2")]
    assert api.answers == {1: ["charge-1"] * 2, 2: ["charge-2"] * 2}
    assert len(api.charges) == 2
