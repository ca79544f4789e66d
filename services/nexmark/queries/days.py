"""What is counted of a day: days are windows, which leave the state when they are over."""

from __future__ import annotations

import msgspec

import kstream
from services.nexmark.inputs import NO_GRACE, Nexmark
from services.nexmark.model import Bid


def rank(price: int) -> int:
    """0, 1 or 2: how dear it is."""
    return 0 if price < 10_000 else 1 if price < 1_000_000 else 2


class Ranks(msgspec.Struct):
    """Of each of three ranks of price: how many bids, whose, and on what."""

    minute: str = ""
    bids: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    bidders: list[set[int]] = msgspec.field(default_factory=lambda: [set(), set(), set()])
    auctions: list[set[int]] = msgspec.field(default_factory=lambda: [set(), set(), set()])


def ranked(ranks: Ranks, bid: Bid) -> Ranks:
    which = rank(bid.price)
    ranks.minute = max(ranks.minute, f"{bid.date_time:%H:%M}")
    ranks.bids[which] += 1
    ranks.bidders[which].add(bid.bidder)
    ranks.auctions[which].add(bid.auction)
    return ranks


class Day(msgspec.Struct):
    """Of all, and of each rank. `minute`: of the last bid."""

    minute: str
    bids: list[int]
    bidders: list[int]
    auctions: list[int]


def totals(ranks: Ranks) -> Day:
    def different(sets: list[set[int]]) -> list[int]:
        return [len(set().union(*sets)), *map(len, sets)]

    return Day(ranks.minute, [sum(ranks.bids), *ranks.bids], different(ranks.bidders), different(ranks.auctions))


def q15(n: Nexmark) -> None:
    """A day's bids, bidders and auctions by rank of price: all bids meet in one place."""
    all_of_them = n.bids.group_by(lambda _: "all", key=str, name="all", parallelism=1)
    days = all_of_them.window(kstream.Tumbling(days=1), grace=NO_GRACE)
    ranks = days.aggregate(Ranks, ranked, name="ranks", emit="commit").stream()
    ranks.map(totals).to(n.results(Day, key=kstream.Windowed[str]))


def q16(n: Nexmark) -> None:
    """The same for each channel."""
    by_channel = n.bids.group_by(lambda bid: bid.channel, key=str, name="by-channel")
    days = by_channel.window(kstream.Tumbling(days=1), grace=NO_GRACE)
    ranks = days.aggregate(Ranks, ranked, name="ranks", emit="commit").stream()
    ranks.map(totals).to(n.results(Day, key=kstream.Windowed[str]))


class Prices(msgspec.Struct):
    bids: int = 0
    ranks: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])
    least: int = 0
    most: int = 0
    mean: int = 0  # in whole cents, cut off
    all: int = 0


def q17(n: Nexmark) -> None:
    """What is bid for each auction on each day, after each bid."""

    def with_bid(prices: Prices, bid: Bid) -> Prices:
        prices.least = min(prices.least, bid.price) if prices.bids else bid.price
        prices.most = max(prices.most, bid.price)
        prices.bids += 1
        prices.ranks[rank(bid.price)] += 1
        prices.all += bid.price
        prices.mean = prices.all // prices.bids
        return prices

    days = n.bids.group_by_key().window(kstream.Tumbling(days=1), grace=NO_GRACE)
    days.aggregate(Prices, with_bid, name="prices").to(n.results(Prices, key=kstream.Windowed[int]))
