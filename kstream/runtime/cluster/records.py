"""Records of one topic from given offsets on, read committed, outside any group.

What commands and the status page look with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kstream.config import Settings
from kstream.errors import KafkaUnavailable, StateError
from kstream.runtime.cluster.announce import quiet
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.types import AdminClient, Clients, Fetch, Headers, TopicPartition

TIMEOUT: Final = 15.0
"""Seconds that the cluster may take for an answer."""

POLL_RECORDS: Final = 2000
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """One record as Kafka has it. `timestamp` is in ms since the epoch."""

    at: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


_PROMPT: Final = {"consumer.fetch.wait.max.ms": "100"}
"""An end is told when a fetch comes back empty: that must not take long."""


def looking(settings: Settings, client_id: str) -> KafkaClients:
    """Clients to look at data with: small buffers, and ends that are told at once."""
    options = quiet(options_from(settings, client_id))
    raw = {**options.raw, **_PROMPT, **settings.kafka}
    return KafkaClients(settings.bootstrap_servers, replace(options, raw=raw))


def bounds(
    admin: AdminClient, at: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """The first offset and the end of each partition. They are asked for again where a broker has just died: the next
    question goes out through a new client, which knows of another one.

    Raises:
        KafkaUnavailable: they cannot be read in time.
    """
    if not at:
        return {}, {}
    topic = at[0].topic
    starts = answer(lambda: admin.start_offsets(at), f"the start offsets of topic {topic}")
    return starts, answer(lambda: admin.end_offsets(at), f"the end offsets of topic {topic}")


class Reading:
    """Records of one topic from given offsets on, as they come.

    Args:
        waits: an end behind an open transaction is reached when that has ended; otherwise what is behind it is left
            out.

    Attributes:
        at_end: the partitions whose end, as it was at the beginning, was reached.
        done: how many offsets were passed so far, of `total` to the ends as they were at the beginning.
    """

    def __init__(
        self,
        clients: Clients,
        admin: AdminClient,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        *,
        waits: bool = False,
    ) -> None:
        self._admin, self._ends, self._waits = admin, ends, waits
        self._begun, self._positions = dict(starts), dict(starts)
        self.at_end = {at for at, start in starts.items() if start >= ends[at]}
        self.total = sum(max(ends[at] - start, 0) for at, start in starts.items())
        self._reader = clients.reader()
        self._reader.assign(self._positions)

    @property
    def ended(self) -> bool:
        return len(self.at_end) == len(self._positions)

    @property
    def done(self) -> int:
        return sum(
            max((self._ends[at] if at in self.at_end else min(position, self._ends[at])) - self._begun[at], 0)
            for at, position in self._positions.items()
        )

    def take(self) -> list[Row]:
        """What has come, each partition in its order; waits for a moment when nothing has.

        Raises:
            TopicError, KafkaUnavailable.
        """
        try:
            polled = self._reader.poll(POLL_RECORDS, POLL_SECONDS)
        except StateError:  # deleted while we read: repartition topics are purged
            self._go_on()
            return []
        rows: list[Row] = []
        for fetch in polled.fetches:
            rows += _rows(fetch)
            self._reach(fetch.at, fetch.last_offset + 1)
        for at, offset in polled.ends.items():  # behind markers of transactions, and what compaction took
            self._reach(at, offset)
            if not self._waits:
                self.at_end.add(at)
        return rows

    def _reach(self, at: TopicPartition, offset: int) -> None:
        self._positions[at] = max(self._positions[at], offset)
        if self._positions[at] >= self._ends[at]:
            self.at_end.add(at)

    def _go_on(self) -> None:
        starts, _ = bounds(self._admin, list(self._positions))
        self._positions = {at: max(offset, starts[at]) for at, offset in self._positions.items()}
        self._reader.assign(self._positions)

    def close(self) -> None:
        self._reader.close()


def _rows(fetch: Fetch) -> Iterator[Row]:
    columns = (fetch.offsets(), fetch.timestamps(), fetch.keys(), fetch.values(), fetch.headers())
    for offset, timestamp, key, value, headers in zip(*columns, strict=True):
        yield Row(fetch.at, offset, timestamp, key, value, headers or ())


def to_end(reading: Reading, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Row]:
    """All records up to the ends as they were at the beginning.

    Raises:
        KafkaUnavailable: nothing comes any more.
    """
    heard = time.monotonic()
    while not reading.ended:
        before = reading.done
        yield from reading.take()
        on_progress(reading.done, reading.total)
        if reading.done > before:
            heard = time.monotonic()
        elif time.monotonic() - heard > TIMEOUT:
            raise KafkaUnavailable("the topic could not be read to its end, no more records arrive: try again")
