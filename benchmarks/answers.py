"""Whether what a program wrote is what DuckDB answers for the same records (services/nexmark/oracle.py)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from benchmarks.given import is_of_closing
from benchmarks.runs import RunFailed
from kstream.codecs import decode_keys, decode_value
from kstream.specs.topic import Topic
from services.nexmark.app import make_app
from services.nexmark.generator import Events
from services.nexmark.model import PARTITIONS
from services.nexmark.oracle import ASKED, Oracle, Row

QUIET: Final = 2.0
"""Seconds without a further result after which what there is may be all there is."""
PATIENCE: Final = 60.0
"""Seconds after which results that are missing have not come."""


class Unequal(RunFailed):
    """What was written is not what must be. The text says what is missing and what is too much."""


class Results(NamedTuple):
    """What a program wrote for a query: how many records, and how many rows of DuckDB's answer they were."""

    query: str
    written: int
    rows: int


class Answers:
    """Knows what each query must come to.

    Args:
        arrived: when each came to Kafka, in ms.
    """

    def __init__(self, events: Events, arrived: Iterable[int]) -> None:
        oracle = Oracle(events, events.ends, arrived)
        self._answer = cache(oracle.answer)

    def compared(
        self, servers: str, query: str, topic: str, failure: Callable[[], str | None], further: Callable[[], None]
    ) -> Results:
        """Reads the topic of results until it has all there must be, and no more comes.

        Args:
            failure: lets the program go on, and says how it failed, if it did.
            further: called while there is less than all.

        Raises:
            Unequal: something is missing, or too much.
            RunFailed: the program failed.
        """
        must = self._answer(query)
        with_all = must.total()
        reader = Reader(servers, query, topic)
        began = moved = time.monotonic()
        try:
            while True:
                if failed := failure():
                    raise RunFailed(f"{query}: {failed}")
                now = time.monotonic()
                moved = now if reader.poll() else moved
                found = reader.rows()
                whole, over = found.total() >= with_all, now - began > PATIENCE
                if now - moved > QUIET and ((whole and found == must) or over):
                    break
                if not whole:
                    further()
        finally:
            reader.close()
        missing, excess = must - found, found - must
        if missing or excess:
            raise Unequal(
                f"{query}: of {with_all:,} rows {missing.total():,} are missing and {excess.total():,} are too much: "
                f"missing {missing.most_common(3)}, too much {excess.most_common(3)}"
            )
        return Results(query, reader.written, with_all)


class Reader:
    """Reads a topic of results as it grows.

    Attributes:
        written: how many records it had, but for those that came of records that closed windows.
    """

    def __init__(self, servers: str, query: str, topic: str) -> None:
        self._form = _form(query)
        self._asked = ASKED[query]
        self._last: dict[object, list[Row]] = {}
        self._rows = Counter[Row]()
        self.written = 0
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "bench-results", "enable.auto.commit": False,
             "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        )  # fmt: skip
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])

    def poll(self) -> bool:
        """Takes what there is. Returns whether it was anything."""
        before = self.written
        messages = [one for one in self._consumer.consume(50_000, 0.3) if one.error() is None]
        keys = decode_keys(self._form.key.codec, [one.key() for one in messages])
        for key, message in zip(keys, messages, strict=True):
            value = decode_value(self._form.value.codec, message.value())
            if value is None:
                continue
            rows = list(self._asked.rows(key, value))
            if any(map(is_of_closing, rows)):
                continue
            self.written += 1
            if self._asked.last:
                self._last[key] = rows
            else:
                self._rows.update(rows)
        return self.written > before

    def rows(self) -> Counter[Row]:
        """What the results come to."""
        return Counter(row for rows in self._last.values() for row in rows) if self._asked.last else self._rows

    def close(self) -> None:
        self._consumer.close()


@cache
def _form(query: str) -> Topic[object, object]:
    """The topic of a query's results, as it is declared."""
    app = make_app(query)
    return next(topic for topic in app.topology().declared if topic.name == f"{app.name}-results")
