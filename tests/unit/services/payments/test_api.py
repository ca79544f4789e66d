"""The API that fails: how often it does, and that it charges an order once."""

from __future__ import annotations

import pytest

from services.payments.api import PaymentApi, declined, unavailable
from services.payments.client import Client, Declined, Order, Unavailable


@pytest.fixture
def client(api: PaymentApi) -> Client:
    return Client(api.url)


def test_one_in_ten_is_unavailable_and_one_in_a_hundred_declined() -> None:
    numbers = range(1_000)
    assert sum(unavailable(n) > 0 for n in numbers) == 100
    assert sum(unavailable(n) == 2 for n in numbers) == 50
    assert sum(declined(n) for n in numbers) == 10
    assert not any(declined(n) and unavailable(n) for n in numbers)


def test_an_order_is_charged_once_however_often_it_comes(api: PaymentApi, client: Client) -> None:
    order = Order(1, "ann", 500)
    assert client.charge(order) == client.charge(order) == "charge-1"
    assert client.charge(Order(2, "ann", 500)) == "charge-2"
    assert api.charges == {"charge-1": order, "charge-2": Order(2, "ann", 500)}
    assert api.answers == {1: ["charge-1"] * 2, 2: ["charge-2"]}


def test_another_order_under_the_same_number_is_declined(client: Client) -> None:
    client.charge(Order(1, "ann", 500))
    with pytest.raises(Declined, match="order 1: 409 charge-1 was for something else"):
        client.charge(Order(1, "ann", 600))


def test_the_second_time_an_order_is_charged_though_the_answer_does_not_say_so(api: PaymentApi, client: Client) -> None:
    order = Order(13, "ann", 500)
    charged = []
    for _ in range(2):
        with pytest.raises(Unavailable, match="order 13: 503 come again"):
            client.charge(order)
        charged.append(len(api.charges))
    assert charged == [0, 1] and not api.answers
    assert client.charge(order) == "charge-1"
    assert list(api.charges) == ["charge-1"]


def test_one_that_is_declined_is_charged_when_the_api_is_mended(api: PaymentApi, client: Client) -> None:
    for _ in range(5):
        with pytest.raises(Declined, match="order 99: 402 the card is declined"):
            client.charge(Order(99, "ann", 500))
    assert not api.charges
    api.mended = True
    assert client.charge(Order(99, "ann", 500)) == "charge-1"


def test_an_api_that_is_not_there_is_unavailable() -> None:
    with PaymentApi() as api:
        url = api.url
    with pytest.raises(Unavailable, match="order 1: ConnectionRefusedError"):
        Client(url).charge(Order(1, "ann", 500))
