"""Topics of an app by name, and their records from some place on, read committed."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kstream.cli.operate import Subject
from kstream.errors import KafkaUnavailable, StateError, TopicError, UsageError
from kstream.runtime.kafka import KafkaClients
from kstream.specs.store import StoreSpec
from kstream.specs.topic import Topic
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, Fetch, Headers, TopicPartition

TIMEOUT: Final = 15.0
"""Seconds that the cluster may take for an answer."""

POLL_RECORDS: Final = 2000
POLL_SECONDS: Final = 0.2

_PROMPT: Final = {"consumer.fetch.wait.max.ms": "100"}
"""An end is told when a fetch comes back empty: that must not take long."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record as Kafka has it. `timestamp` is in ms since the epoch."""

    at: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def clients_of(on: Subject) -> Clients:
    """Clients to look at data with."""
    return KafkaClients(on.servers, replace(on.options, raw={**_PROMPT, **on.options.raw}))


# ---- by name


def topics_of(topology: Topology) -> dict[str, Topic[Any, Any]]:
    """All topics of an app by name: declared ones, repartition topics, changelogs."""
    topics = {topic.name: topic for topic in topology.declared}
    for part in topology.parts:
        for store in part.stores:
            name = topology.changelog(store)
            topics[name] = Topic(name, store.key, store.value, internal=True)
    return topics


def stores_of(topology: Topology) -> dict[str, StoreSpec]:
    """All tables of an app by name, those of aggregations too."""
    return {store.name: store for part in topology.parts for store in part.stores}


def find(what: str, name: str, among: Mapping[str, Any], app: str) -> Any:
    """What has this name.

    Raises:
        UsageError: nothing has; the message lists what there is.
    """
    if name in among:
        return among[name]
    near = difflib.get_close_matches(name, among, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(among) or 'none'}"
    raise UsageError(f"app {app} has no {what} {name!r}; {hint}")


def partitions_of(admin: AdminClient, name: str, servers: str, target: str) -> int:
    """How many partitions a topic has.

    Raises:
        TopicError: it does not exist. KafkaUnavailable: no answer.
    """
    found = admin.topics(TIMEOUT).get(name)
    if found is None:
        raise TopicError(
            f"topic {name} is not at {servers}: start the app, or make it with: kstream topics {target} --create"
        )
    return found.partitions


# ---- where


def bounds(
    admin: AdminClient, at: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """The first offset and the end of each partition."""
    starts, ends = admin.start_offsets(at), admin.end_offsets(at)
    try:
        return starts.result(TIMEOUT), ends.result(TIMEOUT)
    except TimeoutError:
        raise KafkaUnavailable(f"the start and end offsets of topic {at[0].topic} cannot be read: try again") from None


# ---- reading


class Reading:
    """Records of one topic from given offsets on, as they come.

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
    ) -> None:
        self._admin, self._ends = admin, ends
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
        """What has come, in the order of its time stamps; waits for a moment when nothing has.

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
            self._positions[fetch.at] = fetch.last_offset + 1
            if fetch.last_offset + 1 >= self._ends[fetch.at]:
                self.at_end.add(fetch.at)
        self.at_end.update(polled.ends)  # what is behind an open transaction cannot be seen yet
        return sorted(rows, key=lambda row: row.timestamp) if len(polled.fetches) > 1 else rows

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
