"""librdkafka's own statistics as metrics: what only the client knows of its requests, brokers and queues."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from kstream.observe.catalogue import Series

log = logging.getLogger(__name__)

Kind = Literal["consumer", "producer", "reader"]

STALE_INTERVALS: Final = 3
"""After so many intervals of silence a client's levels are out of date: it was closed, or it is not polled."""


class Statistics:
    """Those of all clients of a worker. Its callbacks and `collect` are called on the worker's thread.

    Counts go on over a client's end: the next one of its kind starts from zero, and what it counts is added. The admin
    client has none: nobody polls it, so they would pile up in its queue.

    Args:
        interval: seconds between two callbacks of a client; 0 for none.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale, self._clock = STALE_INTERVALS * interval, clock
        self._counts: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._heard: dict[_Client, float] = {}
        self._unreadable = False
        self._alone: float | None = None  # since when the group's consumer has no connection to any broker

    def callback(self, kind: Kind) -> Callable[[str], None] | None:
        """A `stats_cb` for one new client; None when statistics are off."""
        return _Client(self, kind) if self._stale else None

    def collect(self) -> list[Series]:
        """Counts since the worker started, and levels of the clients that live."""
        now = self._clock()
        self._heard = {client: heard for client, heard in self._heard.items() if now - heard <= self._stale}
        levels: dict[tuple[str, str], float] = {}
        for client in self._heard:
            for name, value in client.levels.items():
                at = (name, client.kind)
                merge = max if name in _OF_THE_SLOWEST else sum
                levels[at] = merge((levels[at], value)) if at in levels else value
        return [
            Series(name, (label,), value) for part in (self._counts, levels) for (name, label), value in part.items()
        ]

    def alone_for(self) -> float | None:
        """For how many seconds the consumer of the group has had no connection to any broker, as it said last."""
        return None if self._alone is None else self._clock() - self._alone

    def take(self, client: _Client, text: str) -> None:
        """One callback. It never raises: that would come out of the client's poll."""
        try:
            found = _decode(text)
        except msgspec.MsgspecError as error:
            if not self._unreadable:
                self._unreadable = True
                log.warning("librdkafka's statistics cannot be read, its metrics are missing: %s", error)
            return
        self._heard[client] = self._clock()
        if client.kind == "consumer":
            alone = not any(broker.state in _CONNECTED for broker in found.brokers.values())
            self._alone = (self._clock() if self._alone is None else self._alone) if alone else None
        for (name, label), grown in client.update(found):
            self._counts[name, label] += grown


class _Client:
    """One client: what it counted when it was heard last, and its levels."""

    def __init__(self, statistics: Statistics, kind: Kind) -> None:
        self.kind = kind
        self.levels: dict[str, float] = {}
        self._statistics = statistics
        self._seen: dict[tuple[str, str, str], int] = {}

    def __call__(self, text: str) -> None:
        self._statistics.take(self, text)

    def update(self, found: _Found) -> Iterator[tuple[tuple[str, str], int]]:
        """Takes what was found over. Gives metric and label, and by how much each has grown."""
        self.levels = _levels(found)
        counts = _requests(found, self.kind) | _bytes(found, self.kind)
        for (name, label, where), count in counts.items():
            before = self._seen.get((name, label, where), 0)
            # a partition that left and came back counts from zero
            yield (name, label), count - before if count >= before else count
        self._seen.update(counts)


# ---- what is read of librdkafka's JSON (documented with it); the rest is skipped


class _Window(msgspec.Struct):
    avg: int = 0
    cnt: int = 0


class _Broker(msgspec.Struct):
    rtt: _Window
    """Microseconds."""
    throttle: _Window
    """Milliseconds."""
    tx: int = 0
    txerrs: int = 0
    txretries: int = 0
    req_timeouts: int = 0
    connects: int = 0
    state: str = ""


class _Partition(msgspec.Struct):
    txbytes: int = 0
    rxbytes: int = 0
    fetchq_cnt: int = 0
    fetchq_size: int = 0


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition]


class _Found(msgspec.Struct):
    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]
    msg_cnt: int = 0
    msg_size: int = 0


_decode = msgspec.json.Decoder(_Found).decode

_REQUESTS: Final = {
    "kafka_requests_total": "tx",
    "kafka_request_errors_total": "txerrs",
    "kafka_request_retries_total": "txretries",
    "kafka_request_timeouts_total": "req_timeouts",
    "kafka_connects_total": "connects",
}
_CONNECTED: Final = frozenset({"UP", "UPDATE"})
_OF_THE_SLOWEST: Final = frozenset({"kafka_broker_rtt_seconds", "kafka_throttle_seconds"})


def _requests(found: _Found, kind: Kind) -> dict[tuple[str, str, str], int]:
    """Counts by metric, client and host: a broker's name changes from `host:port/bootstrap` to `host:port/1` once its
    number is known, and its counts go on."""
    counts: dict[tuple[str, str, str], int] = {}
    for name, broker in found.brokers.items():
        host = name.partition("/")[0]
        for metric, field in _REQUESTS.items():
            at = (metric, kind, host)
            counts[at] = counts.get(at, 0) + getattr(broker, field)
    return counts


def _bytes(found: _Found, kind: Kind) -> dict[tuple[str, str, str], int]:
    """Counts by metric, topic and partition. What a reader brings is in restored_bytes_total."""
    if kind == "reader":
        return {}
    metric, field = ("consumed_bytes_total", "rxbytes") if kind == "consumer" else ("produced_bytes_total", "txbytes")
    return {
        (metric, name, partition): getattr(one, field)
        for name, topic in found.topics.items()
        for partition, one in topic.partitions.items()
    }


def _levels(found: _Found) -> dict[str, float]:
    partitions = [one for topic in found.topics.values() for one in topic.partitions.values()]
    # all partitions of a consumer share one queue, and each of them tells the length of the whole
    levels: dict[str, float] = {
        "kafka_queued_records": found.msg_cnt + max((one.fetchq_cnt for one in partitions), default=0),
        "kafka_queued_bytes": found.msg_size + max((one.fetchq_size for one in partitions), default=0),
        "kafka_throttle_seconds": max((one.throttle.avg for one in found.brokers.values()), default=0) / 1e3,
    }
    asked = [one.rtt.avg for one in found.brokers.values() if one.rtt.cnt]
    if asked:  # else nobody knows
        levels["kafka_broker_rtt_seconds"] = max(asked) / 1e6
    return levels
