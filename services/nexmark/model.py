"""The records of Nexmark, and the topics that they come in: one for each type, keyed by what most queries ask for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

PREFIX: Final = "nexmark"
"""Of the names of topics and apps, where no other is given."""
PARTITIONS: Final = 4

OUT_OF_ORDER: Final = timedelta(seconds=4)
"""Records may come so much later than others of their partition that have a later event time, as in Flink's set-up."""


OPEN_AT_MOST: Final = timedelta(minutes=1)
"""So long an auction is open, and so long before or after it somebody may name it."""


class Person(msgspec.Struct, gc=False):
    """Somebody who sells or bids. The key is the id."""

    id: int
    name: str
    email: str
    credit_card: str
    city: str
    state: str
    date_time: datetime
    extra: str


class Auction(msgspec.Struct, gc=False):
    """Something that is sold, to whoever bids most until it expires. The key is the id."""

    id: int
    item: str
    description: str
    initial_bid: int  # cents, as all prices
    reserve: int
    date_time: datetime
    expires: datetime
    seller: int
    category: int
    extra: str


class Bid(msgspec.Struct, gc=False):
    """The key is the auction: all bids of an auction meet in one partition, with the auction itself."""

    auction: int
    bidder: int
    price: int
    channel: str
    url: str
    date_time: datetime
    extra: str


Event = Person | Auction | Bid


TOPICS: Final[dict[type[Event], str]] = {Person: "persons", Auction: "auctions", Bid: "bids"}


def topic_of(kind: type[Event], prefix: str = PREFIX) -> str:
    """Where its records go."""
    return f"{prefix}-{TOPICS[kind]}"


def key_of(event: Event) -> int:
    """The key that it goes with."""
    return event.auction if isinstance(event, Bid) else event.id
