"""The service of the screenshots: orders and payments of a shop. Workers load it as `browser.shop:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

import kstream


class Order(msgspec.Struct):
    customer: str
    product: str
    cents: int
    paid: bool


class Suspicion(msgspec.Struct):
    customer: str
    unpaid: int


app = kstream.App("shop")

orders = app.topic("orders", key=str, value=Order, partitions=16)
revenue = app.topic("revenue-per-product", key=str, value=int, partitions=16)
sold = app.topic("orders-per-product", key=str, value=int, partitions=16)
suspicions = app.topic("suspicions", key=str, value=Suspicion, partitions=4)
returns = app.topic("returns", key=str, value=Order, partitions=8)
refunds = app.topic("refunds", key=str, value=int, partitions=8)

unpaid = app.table("unpaid", key=str, value=int, default=int)
returned = app.table("returned", key=str, value=int, default=int)


def is_paid(order: Order) -> bool:
    return order.paid


by_product = app.stream(orders).filter(is_paid).group_by(lambda order: order.product, key=str, name="by-product")
by_product.aggregate(initial=int, fold=lambda total, order: total + order.cents, value=int, name="revenue").to(revenue)
by_product.count(name="sold").to(sold)


@app.agent(orders, to=suspicions)
async def watch(stream: kstream.AgentStream[str, Order]) -> AsyncIterator[Suspicion]:
    async for order in stream:
        if not order.paid:
            unpaid[order.customer] += 1
            if unpaid[order.customer] % 5 == 0:
                yield Suspicion(order.customer, unpaid[order.customer])


@app.agent(returns, to=refunds)
async def refund(stream: kstream.AgentStream[str, Order]) -> AsyncIterator[int]:
    async for order in stream:
        returned[order.customer] += 1
        yield order.cents
