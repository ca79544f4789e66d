"""What all queries are made of: the three streams, and a topic for results."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any

import kstream
from services.nexmark.model import AUCTIONS, BIDS, OUT_OF_ORDER, PARTITIONS, PERSONS, Auction, Bid, Person

NO_GRACE = timedelta(0)
"""The topics say how late records may come: no window needs to wait longer."""


class Nexmark:
    """The app of one query, with the streams that it uses. Event time is when something took place."""

    def __init__(self, query: str) -> None:
        self.app = kstream.App(f"nexmark-{query}")

    @cached_property
    def persons(self) -> kstream.Stream[int, Person]:
        topic = self.app.topic(
            PERSONS, key=int, value=Person, partitions=PARTITIONS, timestamp="date_time", out_of_order=OUT_OF_ORDER
        )
        return self.app.stream(topic)

    @cached_property
    def auctions(self) -> kstream.Stream[int, Auction]:
        topic = self.app.topic(
            AUCTIONS, key=int, value=Auction, partitions=PARTITIONS, timestamp="date_time", out_of_order=OUT_OF_ORDER
        )
        return self.app.stream(topic)

    @cached_property
    def bids(self) -> kstream.Stream[int, Bid]:
        topic = self.app.topic(
            BIDS, key=int, value=Bid, partitions=PARTITIONS, timestamp="date_time", out_of_order=OUT_OF_ORDER
        )
        return self.app.stream(topic)

    @cached_property
    def bids_as_they_come(self) -> kstream.Stream[int, Bid]:
        """Their time is when they were written to Kafka."""
        return self.app.stream(self.app.topic(BIDS, key=int, value=Bid, partitions=PARTITIONS))

    def results(self, value: Any, key: Any = int) -> kstream.Topic[Any, Any]:
        """The topic of the query's results. They are kept: some have event times of long ago."""
        return self.app.topic(
            f"{self.app.name}-results", key=key, value=value, partitions=PARTITIONS, config={"retention.ms": "-1"}
        )
