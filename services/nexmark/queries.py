"""The queries of Nexmark. Each is an app of its own; what is asked is said in SQL in oracle.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

import kstream
from services.nexmark.inputs import NO_GRACE, Nexmark
from services.nexmark.model import Auction, Bid, Person

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


class Count(msgspec.Struct):
    auction: int
    bids: int


def q5(n: Nexmark) -> None:
    """The auctions with the most bids in the last ten seconds, every two seconds."""

    def most(hot: list[Count], one: Count) -> list[Count]:
        if not hot or one.bids > hot[0].bids:
            return [one]
        return [*hot, one] if one.bids == hot[0].bids else hot

    hops = kstream.Hopping(seconds=10, every=timedelta(seconds=2))
    counts = n.bids.group_by_key().window(hops, grace=NO_GRACE).count(name="counts", emit="close").stream()
    # the windows that end together: a result's time is the last millisecond of its window
    together = counts.map(lambda bids, ctx: Count(ctx.key.key, bids), value=Count).group_by(
        lambda _, ctx: ctx.key.start, key=int, name="by-window"
    )
    hottest = together.window(kstream.Tumbling(seconds=2), grace=NO_GRACE)
    hottest.aggregate(list, most, value=list[Count], name="hottest", emit="close").stream().flat_map(
        lambda hot: hot, value=Count
    ).to(n.results(Count, key=kstream.Windowed[int]))


def q7(n: Nexmark) -> None:
    """The highest bids of each ten seconds: of each auction first, then of them all."""

    def highest(best: list[Bid], bid: Bid) -> list[Bid]:
        if not best or bid.price > best[0].price:
            return [bid]
        return [*best, bid] if bid.price == best[0].price else best

    windows = kstream.Tumbling(seconds=10)
    of_auctions = n.bids.group_by_key().window(windows, grace=NO_GRACE)
    some = of_auctions.aggregate(list, highest, value=list[Bid], name="of-auction", emit="close").stream()
    of_window = some.flat_map(lambda best: best, value=Bid).group_by(
        lambda _, ctx: ctx.key.start, key=int, name="by-window"
    )
    of_all = of_window.window(windows, grace=NO_GRACE)
    best = of_all.aggregate(list, highest, value=list[Bid], name="highest", emit="close").stream()
    best.flat_map(lambda best: best, value=Bid).to(n.results(Bid, key=kstream.Windowed[int]))


class Seen(msgspec.Struct):
    name: str | None = None  # of a person who came
    sold: bool = False


class Newcomer(msgspec.Struct):
    id: int
    name: str
    since: int


def q8(n: Nexmark) -> None:
    """Who came, and opened an auction, within the same ten seconds."""

    def both(seen: Seen, one: Seen) -> Seen:
        return Seen(seen.name or one.name, seen.sold or one.sold)

    came = n.persons.map(lambda person: Seen(person.name), value=Seen)
    sold = n.auctions.rekey(lambda auction: auction.seller, key=int).map(lambda _: Seen(sold=True), value=Seen)
    windows = came.merge(sold).group_by_key(name="by-person").window(kstream.Tumbling(seconds=10), grace=NO_GRACE)
    seen = windows.aggregate(Seen, both, name="seen", emit="close").stream().filter(lambda one: one.name and one.sold)
    seen.map(lambda one, ctx: Newcomer(ctx.key.key, one.name or "", ctx.key.start), value=Newcomer).to(
        n.results(Newcomer, key=kstream.Windowed[int])
    )


def q12(n: Nexmark) -> None:
    """How often somebody bids within ten seconds, by the time at which bids come to Kafka."""
    bidders = n.bids_as_they_come.group_by(lambda bid: bid.bidder, key=int, name="by-bidder")
    windows = bidders.window(kstream.Tumbling(seconds=10), grace=NO_GRACE)
    windows.count(name="bids").to(n.results(int, key=kstream.Windowed[int]))


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


def q18(n: Nexmark) -> None:
    """The last bid of each bidder on each auction."""

    def later(last: Bid, bid: Bid) -> Bid:
        return bid if bid.date_time >= last.date_time else last

    pairs = n.bids.group_by(lambda bid: (bid.bidder, bid.auction), key=tuple[int, int], name="by-bidder-and-auction")
    pairs.reduce(later, name="last").to(n.results(Bid, key=tuple[int, int]))


TOP: Final = 10


def q19(n: Nexmark) -> None:
    """The ten highest bids on each auction."""

    def with_bid(top: list[Bid], bid: Bid) -> list[Bid]:
        if len(top) == TOP and bid.price <= top[-1].price:
            return top
        return sorted([*top, bid], key=lambda one: -one.price)[:TOP]

    top = n.bids.group_by_key().aggregate(list, with_bid, value=list[Bid], name="top", emit="commit")
    top.to(n.results(list[Bid]))


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


Query = Callable[[Nexmark], None]

QUERIES: Final[dict[str, Query]] = {
    query.__name__: query for query in (q0, q1, q2, q3, q5, q7, q8, q12, q13, q14, q15, q16, q17, q18, q19, q22)
}
