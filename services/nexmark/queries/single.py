"""Each bid by itself, or with something small that is known beforehand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

import kstream
from services.nexmark.inputs import Nexmark
from services.nexmark.model import Bid

EURO: Final = Decimal("0.908")
"""Of a dollar."""


def q0(n: Nexmark) -> None:
    """All bids, as they are: what reading and writing costs."""
    n.bids.to(n.results(Bid))


class InEuros(msgspec.Struct):
    auction: int
    bidder: int
    price: Decimal
    date_time: datetime
    extra: str


def q1(n: Nexmark) -> None:
    """Bids, in euros."""

    def in_euros(bid: Bid) -> InEuros:
        return InEuros(bid.auction, bid.bidder, EURO * bid.price, bid.date_time, bid.extra)

    n.bids.map(in_euros).to(n.results(InEuros))


class Offer(msgspec.Struct):
    auction: int
    price: int


def q2(n: Nexmark) -> None:
    """Bids on some of the auctions."""
    chosen = n.bids.filter(lambda bid: bid.auction % 123 == 0)
    chosen.map(lambda bid: Offer(bid.auction, bid.price), value=Offer).to(n.results(Offer))


SIDE: Final = 10_000
"""How many keys the side input has."""


def side_input() -> dict[int, str]:
    """A small file would do as well."""
    return {key: f"side-{key * 7919 % SIDE}" for key in range(0, SIDE, 2)}


class WithSide(msgspec.Struct):
    auction: int
    bidder: int
    price: int
    date_time: datetime
    value: str


def q13(n: Nexmark) -> None:
    """Bids, joined with something small that each worker keeps whole."""

    @n.app.lifespan
    async def side(worker: kstream.Worker) -> AsyncGenerator[None, None]:
        worker.state.side = side_input()
        yield

    def joined(bid: Bid, ctx: kstream.Context[int]) -> list[WithSide]:
        found = ctx.worker.state.side.get(bid.auction % SIDE)
        return [] if found is None else [WithSide(bid.auction, bid.bidder, bid.price, bid.date_time, found)]

    n.bids.flat_map(joined).to(n.results(WithSide))


class Timed(msgspec.Struct):
    auction: int
    bidder: int
    price: Decimal
    time_of_day: str
    date_time: datetime
    extra: str
    letters_c: int


def q14(n: Nexmark) -> None:
    """Bids within two prices, with the time of the day and a count of letters."""

    def timed(bid: Bid) -> Timed:
        hour = bid.date_time.hour
        time_of_day = "day" if 8 <= hour <= 18 else "night" if hour <= 6 or hour >= 20 else "other"
        price = EURO * bid.price
        return Timed(
            bid.auction, bid.bidder, price, time_of_day, bid.date_time, bid.extra, bid.extra.count("c")
        )  # fmt: skip

    dear = n.bids.filter(lambda bid: 1_000_000 < EURO * bid.price < 50_000_000)
    dear.map(timed).to(n.results(Timed))


class Places(msgspec.Struct):
    auction: int
    bidder: int
    price: int
    channel: str
    first: str
    second: str
    third: str


def q22(n: Nexmark) -> None:
    """The parts of each bid's address."""

    def places(bid: Bid) -> Places:
        return Places(bid.auction, bid.bidder, bid.price, bid.channel, *bid.url.split("/")[3:6])

    n.bids.map(places).to(n.results(Places))
