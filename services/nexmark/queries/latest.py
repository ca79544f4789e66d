"""The last and the highest bids."""

from __future__ import annotations

from typing import Final

from services.nexmark.inputs import Nexmark
from services.nexmark.model import Bid


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
