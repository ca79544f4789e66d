"""What happens within some seconds."""

from __future__ import annotations

from datetime import timedelta

import msgspec

import kstream
from services.nexmark.inputs import NO_GRACE, Nexmark
from services.nexmark.model import Bid


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


def q11(n: Nexmark) -> None:
    """How often somebody bids without a pause of more than ten seconds."""
    bidders = n.bids.group_by(lambda bid: bid.bidder, key=int, name="by-bidder")
    sessions = bidders.window(kstream.Session(seconds=10), grace=NO_GRACE)
    sessions.count(name="bids", emit="close").to(n.results(int, key=kstream.WindowedSpan[int]))


def q12(n: Nexmark) -> None:
    """How often somebody bids within ten seconds, by the time at which bids come to Kafka."""
    bidders = n.bids_as_they_come.group_by(lambda bid: bid.bidder, key=int, name="by-bidder")
    windows = bidders.window(kstream.Tumbling(seconds=10), grace=NO_GRACE)
    windows.count(name="bids").to(n.results(int, key=kstream.Windowed[int]))
