"""Payments: each order is charged at a payment API over HTTP, and put out as paid, or set aside as a dead letter.

    orders (by customer) ──> charge ──> payments                 each order that was charged, with the charge's name
                                └─────> payments-dead-letters    those that are declined, and why

The API is outside Kafka's transaction: after a crash an order is charged again. So the API must be idempotent, here by
the order's number. Kafka then has each payment exactly once, and each customer is charged once.

An order for which the API is not available is tried again, and the orders behind it in its partition wait, so that
those of a customer stay in order. One that is declined is set aside at once. PAYMENTS_API says where the API is.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import msgspec

import kstream
from services.payments.client import Client, Order, Unavailable

API = "http://127.0.0.1:8086"


class Payment(msgspec.Struct, frozen=True):
    order: int
    amount: int  # cents
    charge: str  # the API's name for it


app = kstream.App("payments")

orders = app.topic("orders", key=str, value=Order, partitions=8)
payments = app.topic("payments", key=str, value=Payment, partitions=8)

clients = kstream.Pool(lambda: Client(os.environ.get("PAYMENTS_API", API)), 16)


def ask(order: Order) -> str:
    with clients.borrow() as client:
        return client.charge(order)


@app.agent(
    orders,
    to=payments,
    on_error=[kstream.Retry(3, base=0.1, max=1.0, on=(Unavailable,)), kstream.DeadLetter()],
)
async def charge(stream: kstream.AgentStream[str, Order]) -> AsyncIterator[Payment]:
    """Other partitions go on while this one waits for the API.

    The client is borrowed by the thread that uses it: an agent that is cancelled would give it back too early.
    """
    async for order in stream:
        yield Payment(order.number, order.amount, await asyncio.to_thread(ask, order))
