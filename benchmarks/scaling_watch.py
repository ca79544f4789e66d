"""What `benchmarks.scaling` watches by: a steady feed, the arrivals of committed outputs, and the gaps in them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from benchmarks.scaling_service import PARTITIONS, Done
from kstream.partitioning import partition_of

EVERY: Final = 0.02
"""Seconds between two records of one partition."""

BEHIND: Final = 1.0
"""Seconds of input that may be under way in a steady partition."""

STEADY: Final = 2.0
"""Seconds for which all partitions must have moved before they count as steady."""


class Arrival(NamedTuple):
    """`at`: when the reader had it, by the monotonic clock; `by`: the instance that made it."""

    at: float
    number: int
    by: str


@dataclass(frozen=True)
class Stall:
    """Seconds without progress of one partition around an event, beyond the usual time between two arrivals.

    `concerned`: it moved, or its owner is what the event happened to.
    """

    partition: int
    seconds: float
    concerned: bool


class Watch:
    """Feeds `<name>-in` and reads `<name>-out`, from `__enter__` to `__exit__`, each in a thread."""

    def __init__(self, bootstrap: str, name: str, keys: int) -> None:
        self._bootstrap, self._name = bootstrap, name
        self._keys = _keys_by_partition(keys)
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._feed), threading.Thread(target=self._read)]
        self.fed = 0
        self.arrivals: list[list[Arrival]] = [[] for _ in range(PARTITIONS)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def fill(self) -> None:
        """A record for each key, so that there is state to move."""
        producer = self._producer()
        for key in (key for keys in self._keys for key in keys):
            producer.produce(f"{self._name}-in", b'{"number":0}', key)
            producer.poll(0)
        producer.flush(60)

    def _producer(self, **config: Any) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,  # else a retry may put a partition's first records out of order
                "queue.buffering.max.messages": 2_000_000,
                **config,
            }
        )

    def _feed(self) -> None:
        producer = self._producer(**{"linger.ms": 0})
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due += EVERY
            self.fed += 1
            value = b'{"number":%d}' % self.fed
            for keys in self._keys:
                producer.produce(f"{self._name}-in", value, keys[self.fed % len(keys)])
            producer.poll(0)
        producer.flush(20)

    def _read(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "bench-scaling-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "fetch.error.backoff.ms": 10,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(f"{self._name}-out", each, 0) for each in range(PARTITIONS)])
        decoder = msgspec.json.Decoder(Done)
        while not self._ending.is_set():
            first = consumer.poll(0.1)
            at = time.monotonic()
            for message in [] if first is None else [first, *consumer.consume(10_000, 0)]:
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise RuntimeError(f"the reader: {error}")
                    continue
                done = decoder.decode(message.value() or b"")
                if done.number:
                    self.arrivals[message.partition() or 0].append(Arrival(at, done.number, done.by))
        consumer.close()

    # ---- what there is to see

    def steady_since(self, since: float) -> bool:
        """Whether all partitions have moved, every half second of the last two, and are not behind."""
        now = time.monotonic()
        start = now - STEADY
        if start < since:
            return False
        for arrivals in self.arrivals:
            times = [start, *(one.at for one in _after(arrivals, start)), now]
            if max(_gaps(times)) > STEADY / 4 or arrivals[-1].number < self.fed - BEHIND / EVERY:
                return False
        return True

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                last = [(arrivals[-1] if arrivals else None) for arrivals in self.arrivals]
                raise TimeoutError(f"after {seconds:.0f} s still waiting for {what}: fed {self.fed}, last {last}")
            if not all(thread.is_alive() for thread in self._threads):
                raise RuntimeError("the feed or the reader has died")
            time.sleep(0.02)

    def until_steady(self, owners: int) -> None:
        """Waits until so many instances are at work, and from then on until all is as usual."""
        self.until(lambda: len(set(self.owners().values())) == owners, f"{owners} instances at work")
        since = time.monotonic()
        self.until(lambda: self.steady_since(since), "steady partitions")

    def owners(self) -> Mapping[int, str]:
        return {number: arrivals[-1].by for number, arrivals in enumerate(self.arrivals) if arrivals}

    def usual(self, until: float, seconds: float = STEADY) -> float:
        """The time between two arrivals when nothing happens: the median over the `seconds` before `until`."""
        gaps: list[float] = []
        for arrivals in self.arrivals:
            gaps += _gaps([one.at for one in _after(arrivals, until - seconds) if one.at < until])
        return median(gaps)

    def stalls(self, began: float, before: Mapping[int, str], concerned: Sequence[str]) -> list[Stall]:
        """Since `began`, when partitions had these owners, some of which it happened to. The first gap begins with the
        last arrival before it."""
        usual, found = self.usual(began), []
        for number, arrivals in enumerate(self.arrivals):
            last = max(one.at for one in arrivals if one.at <= began)
            times = [last, *(one.at for one in _after(arrivals, began)), time.monotonic()]
            moved = any(one.by != before[number] for one in _after(arrivals, began))
            stall = max(0.0, max(_gaps(times)) - usual)
            found.append(Stall(number, stall, moved or before[number] in concerned))
        return found

    def each_once(self) -> None:
        """Raises RuntimeError when a number is missing or came twice in a partition (of those that came)."""
        for number, arrivals in enumerate(self.arrivals):
            numbers = [one.number for one in arrivals]
            if numbers != list(range(1, len(numbers) + 1)):
                wrong = next(i for i, got in enumerate(numbers) if got != i + 1)
                came = ", ".join(map(str, numbers[max(0, wrong - 2) : wrong + 8]))
                raise RuntimeError(f"partition {number}: not each number once and in order: {came}")


def _after(arrivals: Sequence[Arrival], at: float) -> list[Arrival]:
    """Those later than `at`; they are at the end."""

    def late() -> Iterator[Arrival]:
        for one in reversed(arrivals):
            if one.at <= at:
                return
            yield one

    return list(late())[::-1]


def _gaps(times: Sequence[float]) -> list[float]:
    """Between different times: what came in one commit came at once."""
    return [later - earlier for earlier, later in itertools.pairwise(times) if later - earlier > 0.005]


def _keys_by_partition(count: int) -> list[list[bytes]]:
    """`count` keys, by the partition that murmur2 gives them."""
    found: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for number in range(count):
        key = b"k%d" % number
        found[partition_of(key, PARTITIONS)].append(key)
    return found
