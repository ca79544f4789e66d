"""What all queries are made of: the three streams, and a topic for results."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import kstream
from services.nexmark.model import OUT_OF_ORDER, PARTITIONS, PREFIX, Auction, Bid, Person, topic_of

E = TypeVar("E", Person, Auction, Bid)

NO_GRACE = timedelta(0)
"""The topics say how late records may come: no window needs to wait longer."""


class Nexmark:
    """The app of one query, with the streams that it uses. Event time is when something took place."""

    def __init__(self, query: str, prefix: str = PREFIX) -> None:
        self.app = kstream.App(f"{prefix}-{query}")
        self._prefix = prefix

    @cached_property
    def persons(self) -> kstream.Stream[int, Person]:
        return self._stream(Person)

    @cached_property
    def auctions(self) -> kstream.Stream[int, Auction]:
        return self._stream(Auction)

    @cached_property
    def bids(self) -> kstream.Stream[int, Bid]:
        return self._stream(Bid)

    @cached_property
    def bids_as_they_come(self) -> kstream.Stream[int, Bid]:
        """Their time is when they were written to Kafka."""
        return self.app.stream(self.app.topic(topic_of(Bid, self._prefix), key=int, value=Bid, partitions=PARTITIONS))

    def _stream(self, kind: type[E]) -> kstream.Stream[int, E]:
        topic = self.app.topic(
            topic_of(kind, self._prefix),
            key=int,
            value=kind,
            partitions=PARTITIONS,
            timestamp="date_time",
            out_of_order=OUT_OF_ORDER,
        )
        return self.app.stream(topic)

    def results(self, value: Any, key: Any = int) -> kstream.Topic[Any, Any]:
        """The topic of the query's results. They are kept: some have event times of long ago."""
        return self.app.topic(
            f"{self.app.name}-results", key=key, value=value, partitions=PARTITIONS, config={"retention.ms": "-1"}
        )
