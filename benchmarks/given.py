"""The records of Nexmark, made once and written anew for each turn.

A program of Kafka Streams closes its last windows only when later records come to each of its tasks, and behind a
repartition they must come after all others: so those are written when it is through with the rest, and the topics
are of no use to another one. Nor do programs of one name begin at the start a second time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Final

import msgspec

from benchmarks.data import delete_topics
from benchmarks.nexmark import PREFIX
from services.nexmark.feed import feed, make_topics
from services.nexmark.generator import LAST_ID, Events
from services.nexmark.model import Event, key_of, topic_of
from services.writing import Written, write

FIRST: Final = timedelta(seconds=12)
"""How long behind the last record those come that close windows, so that they are in none with it."""
APART: Final = timedelta(seconds=5)
"""Event time between two rounds of them: a window that closes must not leave the store before it is looked for."""


class Given:
    """Topics in which the records lie.

    Args:
        events: which.

    Attributes:
        prefix: of the topics' names.
        counts: records of each topic.
    """

    def __init__(self, servers: str, events: Events) -> None:
        self._servers, self._events = servers, events
        encode = msgspec.json.Encoder().encode
        self._records = [(type(event), b"%d" % key_of(event), encode(event)) for event in events]
        self._began = int(time.time() * 1000) - round(events.count / events.rate * 1000)
        self._made, self._rounds = count(1), count()
        self.prefix, self.counts = "", Counter[str]()

    def arrivals(self) -> Iterator[int]:
        """When each record comes to Kafka (ms): as many a second as by their own times, whatever writing them takes."""
        for number in range(self._events.count):
            yield self._began + int(number * 1000 / self._events.rate)

    def anew(self, *kinds: type[Event]) -> None:
        """Topics with the records of these types and no more, in place of those that there are."""
        self.remove()
        self.prefix, self._rounds = f"{PREFIX}-{next(self._made)}", count()
        make_topics(self._servers, self.prefix)
        names = {kind: topic_of(kind, self.prefix) for kind in kinds}
        self.counts = Counter(names[kind] for kind, _, _ in self._records if kind in names)
        write(
            (
                Written(names[kind], key, value, at)
                for (kind, key, value), at in zip(self._records, self.arrivals(), strict=True)
                if kind in names
            ),
            {"bootstrap.servers": self._servers},
        )

    def close(self) -> None:
        """One more record of each type for each partition, each time some seconds of event time later."""
        self._add(self._events.ends + FIRST + next(self._rounds) * APART)

    def end(self) -> None:
        """The same much later: all windows close."""
        self._add(self._events.ends + timedelta(hours=1))

    def _add(self, at: datetime) -> None:
        feed(
            [msgspec.structs.replace(event, date_time=at) for event in self._events.closing()],
            {"bootstrap.servers": self._servers},
            prefix=self.prefix,
        )

    def remove(self) -> None:
        """Deletes the topics."""
        if self.prefix:
            delete_topics(self._servers, f"{self.prefix}-")


def is_of_closing(row: tuple[object, ...]) -> bool:
    """Whether a row of results is of a record that closed windows. Ids alone are so large, and times larger."""
    return any(type(one) is int and LAST_ID <= one < LAST_ID + 1000 for one in row)
