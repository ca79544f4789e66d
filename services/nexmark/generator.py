"""The records of Nexmark, the same for the same seed: of each fifty, one is a person, three are auctions, 46 are bids.

What is meant to be uneven is uneven as in the benchmark's own generator: three auctions of four are of one seller of
the last hundred people, every second bid goes to one auction of the last hundred, three of four bids are of one bidder,
and every second bid comes by one of four channels of ten thousand. Some bids and auctions come before the auction or
the person that they name. Prices are spread evenly over six orders of magnitude.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from kstream.errors import UsageError
from kstream.partitioning import partition_of
from services.nexmark.model import OPEN_AT_MOST, OUT_OF_ORDER, PARTITIONS, Auction, Bid, Event, Person

OF_FIFTY: Final = 50
OF_THEM_AUCTIONS: Final = 3
FIRST_ID: Final = 1000
"""Of people and auctions."""
LAST_ID: Final = 1_000_000_000
"""Of those that come at the very end."""
FIRST_CATEGORY, CATEGORIES = 10, 5
BATCH: Final = 100
"""Of so many people or auctions one is hot at a time."""
HOT_SELLER, HOT_BIDDER, HOT_AUCTION, HOT_CHANNEL = 3 / 4, 3 / 4, 1 / 2, 1 / 2
"""Which share is theirs."""
ACTIVE_PEOPLE, OPEN_AUCTIONS, AHEAD = 1000, 100, 10
"""The others are of so many that came last, and of so many that are yet to come."""
CHANNELS: Final = 10_000
HOT_CHANNELS: Final = ("Google", "Facebook", "Baidu", "Apple")

STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = ("Tucson", "Fresno", "Oakland", "Nampa", "Salem", "Eugene", "Tacoma", "Spokane", "Laramie", "Casper")
FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gina", "Hugo", "Ida", "Jan", "Kim", "Leo")
LAST_NAMES = ("Abel", "Brook", "Cole", "Dorn", "Ellis", "Frost", "Gale", "Hart", "Ivory", "Jones")

MIDNIGHT: Final = datetime(2015, 7, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Events:
    """What is made.

    Attributes:
        count: how many.
        rate: how many come in a second of event time.
        seed: another one makes other records.
        start: event time of the first; default: two thirds of them come before a midnight.
        shuffled: records come in any order among so many.

    Raises:
        UsageError: they would come later than the topics allow.
    """

    count: int
    rate: float = 10_000
    seed: int = 1
    start: datetime | None = None
    shuffled: int = 200

    def __post_init__(self) -> None:
        if self.count < 1 or self.rate <= 0 or self.shuffled < 1:
            raise UsageError("events, their rate, and how many of them come in any order, are more than 0")
        if self.shuffled / self.rate > OUT_OF_ORDER.total_seconds():
            raise UsageError(
                f"{self.shuffled} records in any order at {self.rate:g}/s come more than {OUT_OF_ORDER} late: shuffle "
                "fewer, or make more a second"
            )
        if open_for(self.rate) > OPEN_AT_MOST.total_seconds():
            raise UsageError(f"at {self.rate:g}/s auctions are open for more than {OPEN_AT_MOST}: make more a second")

    @property
    def begins(self) -> datetime:
        """Event time of the first, in whole seconds."""
        early = timedelta(seconds=int(self.count / self.rate * 2 / 3))
        return MIDNIGHT - early if self.start is None else self.start

    @property
    def ends(self) -> datetime:
        """Event time of what would come next."""
        return self.at(self.count)

    def at(self, number: int) -> datetime:
        """Event time of the record of this number, in whole milliseconds."""
        return self.begins + timedelta(milliseconds=int(number * 1000 / self.rate))

    def __iter__(self) -> Iterator[Event]:
        """In the order in which they come."""
        order = random.Random(f"order {self.seed}")
        in_time = _Maker(self)
        records = map(in_time.make, range(self.count))
        while some := list(islice(records, self.shuffled)):
            order.shuffle(some)
            yield from some

    def closing(self) -> Iterator[Event]:
        """One more of each type for each partition, an hour later. With them all windows close but their own."""
        at, ids = self.ends + timedelta(hours=1), range(LAST_ID, LAST_ID + 1000)
        for partition in range(PARTITIONS):
            last = next(one for one in ids if partition_of(b"%d" % one, PARTITIONS) == partition)
            yield Person(last, "", "", "", "", "", at, "")
            yield Auction(last, "", "", 0, 0, at, at, last, 0, "")
            yield Bid(last, last, 0, "", "https://www.nexmark.com/a/b/c/item.htm", at, "")


def open_for(rate: float) -> float:
    """How many seconds of event time an auction is open at most: so that a hundred are open at a time, on average."""
    return 2 * OPEN_AUCTIONS * OF_FIFTY / OF_THEM_AUCTIONS / rate


class _Maker:
    """Makes one record after the other. Numbers below count from 0: people and auctions that there are so far."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._random = random.Random(events.seed)
        self._letters = "".join(self._random.choices(string.ascii_lowercase, k=100_000))
        self._ways = [self._way(number) for number in range(CHANNELS)]
        self._hot_ways = [(name, self._url()) for name in HOT_CHANNELS]
        self._open_for = open_for(events.rate)

    def make(self, number: int) -> Event:
        round_, place = divmod(number, OF_FIFTY)
        at = self._events.at(number)
        if place == 0:
            return self._person(round_, at)
        if place <= OF_THEM_AUCTIONS:
            return self._auction(round_ * OF_THEM_AUCTIONS + place - 1, round_, at)
        return self._bid((round_ + 1) * OF_THEM_AUCTIONS - 1, round_, at)

    def _person(self, person: int, at: datetime) -> Person:
        choose = self._random.choice
        name = f"{choose(FIRST_NAMES)} {choose(LAST_NAMES)}"
        mail = f"{self._text(4, 8)}@{self._text(3, 6)}.com"
        card = " ".join(f"{self._below(10_000):04}" for _ in range(4))
        return Person(FIRST_ID + person, name, mail, card, choose(CITIES), choose(STATES), at, self._text(90, 140))

    def _auction(self, auction: int, person: int, at: datetime) -> Auction:
        hot = self._random.random() < HOT_SELLER
        seller = person // BATCH * BATCH if hot else self._somebody(person)
        first, more = self._price(), self._price()
        length = timedelta(milliseconds=1 + int(self._random.random() * self._open_for * 1000))
        return Auction(
            FIRST_ID + auction, self._text(3, 20), self._text(3, 100), first, first + more, at, at + length,
            FIRST_ID + seller, FIRST_CATEGORY + self._below(CATEGORIES), self._text(300, 400),
        )  # fmt: skip

    def _bid(self, last_auction: int, person: int, at: datetime) -> Bid:
        chance = self._random.random
        if chance() < HOT_AUCTION:
            auction = last_auction // BATCH * BATCH
        else:
            first = max(last_auction - OPEN_AUCTIONS, 0)
            auction = first + self._below(last_auction - first + 1 + AHEAD)
        # the second of the batch, so that hot bidders and hot sellers are not the same
        bidder = person // BATCH * BATCH + 1 if chance() < HOT_BIDDER else self._somebody(person)
        hot = chance() < HOT_CHANNEL
        channel, url = self._hot_ways[self._below(len(HOT_CHANNELS))] if hot else self._ways[self._below(CHANNELS)]
        return Bid(FIRST_ID + auction, FIRST_ID + bidder, self._price(), channel, url, at, self._text(55, 80))

    def _somebody(self, last: int) -> int:
        active = min(last + 1, ACTIVE_PEOPLE)
        return last + 1 - active + self._below(active + AHEAD)

    def _below(self, limit: int) -> int:
        return int(self._random.random() * limit)  # five times as fast as randrange

    def _price(self) -> int:
        return round(10 ** (self._random.random() * 6) * 100)

    def _text(self, least: int, most: int) -> str:
        size = least + self._below(most - least)
        begin = self._below(len(self._letters) - size)
        return self._letters[begin : begin + size]

    def _url(self) -> str:
        places = "/".join(self._text(3, 6) for _ in range(3))
        return f"https://www.nexmark.com/{places}/item.htm?query=1"

    def _way(self, number: int) -> tuple[str, str]:
        url = self._url()
        return f"channel-{number}", f"{url}&channel_id={number}" if self._random.random() < 0.9 else url
