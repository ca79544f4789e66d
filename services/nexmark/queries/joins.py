"""People with their auctions, auctions with their bids."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from services.nexmark.inputs import NO_GRACE, Nexmark
from services.nexmark.model import OPEN_AT_MOST, Auction, Bid, Person


class Sales(msgspec.Struct):
    name: str
    city: str
    state: str
    auctions: list[int]


def q3(n: Nexmark) -> None:
    """Who sells in category 10, in three states: a row for each seller, with all of the auctions so far."""

    def listed(auctions: list[int], auction: Auction) -> list[int]:
        return [*auctions, auction.id]

    def sales(person: Person, auctions: list[int]) -> Sales:
        return Sales(person.name, person.city, person.state, auctions)

    people = n.persons.filter(lambda person: person.state in ("OR", "ID", "CA")).to_table("people")
    sold = n.auctions.filter(lambda auction: auction.category == 10)
    by_seller = sold.group_by(lambda auction: auction.seller, key=int, name="by-seller")
    of_seller = by_seller.aggregate(list, listed, value=list[int], name="of-seller")
    people.join(of_seller, sales, name="sales").to(n.results(Sales | None))


class Sale(msgspec.Struct):
    auction: Auction
    bid: Bid


class Price(msgspec.Struct):
    category: int
    price: int


class Finals(msgspec.Struct):
    auctions: int = 0
    prices: int = 0


def q4(n: Nexmark) -> None:
    """What auctions of each category are sold for on average, in whole cents: a row changes with each higher bid."""

    def sold(finals: Finals, final: Price) -> Finals:
        return Finals(finals.auctions + 1, finals.prices + final.price)

    def not_sold(finals: Finals, final: Price) -> Finals:
        return Finals(finals.auctions - 1, finals.prices - final.price)

    def mean(finals: Finals) -> int | None:
        return finals.prices // finals.auctions if finals.auctions else None

    sales = n.auctions.join(n.bids, Sale, within=(timedelta(0), OPEN_AT_MOST), grace=NO_GRACE, name="sales")
    in_time = sales.filter(lambda sale: sale.bid.date_time <= sale.auction.expires)
    prices = in_time.map(lambda sale: Price(sale.auction.category, sale.bid.price), value=Price).group_by_key()
    dearest = prices.reduce(
        lambda most, one: max(most, one, key=lambda each: each.price), name="dearest", emit="commit"
    )
    finals = dearest.stream().to_table("finals").group_by(lambda one: one.category, key=int, name="by-category")
    finals.aggregate(Finals, sold, not_sold, name="means").map_values(mean).to(n.results(int | None))


def q9(n: Nexmark) -> None:
    """The winning bid of each auction: the highest, and of equal ones the first."""

    def better(best: Sale, one: Sale) -> Sale:
        if one.bid.price == best.bid.price:
            return one if one.bid.date_time < best.bid.date_time else best
        return one if one.bid.price > best.bid.price else best

    sales = n.auctions.join(n.bids, Sale, within=(timedelta(0), OPEN_AT_MOST), grace=NO_GRACE, name="sales")
    in_time = sales.filter(lambda sale: sale.bid.date_time <= sale.auction.expires)
    in_time.group_by_key().reduce(better, name="winning", emit="commit").to(n.results(Sale))


def q20(n: Nexmark) -> None:
    """Bids with what they are for, in category 10."""
    chosen = n.auctions.filter(lambda auction: auction.category == 10)
    within = (OPEN_AT_MOST, OPEN_AT_MOST)
    sales = n.bids.join(
        chosen, lambda bid, auction: Sale(auction, bid), within=within, grace=NO_GRACE, name="sales", value=Sale
    )
    sales.to(n.results(Sale))
