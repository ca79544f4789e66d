"""The last and the highest bids."""

from __future__ import annotations

from services.nexmark.inputs import Nexmark
from services.nexmark.model import Bid


def q18(n: Nexmark) -> None:
    """The last bid of each bidder on each auction."""

    def later(last: Bid, bid: Bid) -> Bid:
        return bid if bid.date_time >= last.date_time else last

    pairs = n.bids.group_by(lambda bid: (bid.bidder, bid.auction), key=tuple[int, int], name="by-bidder-and-auction")
    pairs.reduce(later, name="last").to(n.results(Bid, key=tuple[int, int]))


def q19(n: Nexmark) -> None:
    """The ten highest bids on each auction."""
    top = n.bids.group_by_key().top_n(10, by=lambda bid: bid.price, name="top", emit="commit")
    top.to(n.results(list[Bid]))
