"""debug and sample: what helps to look at a stream."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from kstream.operators.base import Operator
from kstream.operators.batch import Batch

log = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""Between two lines of a `debug`."""

MOST_CHARACTERS: Final = 500
"""Of a record in such a line."""

_MASK: Final = (1 << 64) - 1


class Watched:
    """What goes through a `debug`, over all tasks of a worker: they log together."""

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._count = self._told = 0
        self._told_at = time.monotonic()

    def passed(self, batch: Batch) -> None:
        """Logs a line where it is time for one, with the batch's last record."""
        with self._lock:
            self._count += batch.size
            now = time.monotonic()
            if (seconds := now - self._told_at) < SECONDS and self._told:
                return
            new, self._told, self._told_at = self._count - self._told, self._count, now
            count = self._count
        rate = f"{new / seconds:,.1f}/s" if count != new else "the first"
        log.info("%s: %s records, %s; now %s", self._name, f"{count:,}", rate, _shown(batch))


def _shown(batch: Batch) -> str:
    """The last record. What only looks never fails a record: one that cannot be read, or shown, is not."""
    text = "one that cannot be shown"
    with suppress(Exception):
        last = batch.alone(batch.size - 1)
        text = f"{last.keys[0]!r}: {last.values[0]!r} at {last.timestamps[0]}"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


class Debug(Operator):
    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched

    def push(self, batch: Batch) -> None:
        self._watched.passed(batch)
        self.emit(batch)


class Sample(Operator):
    """Passes on a share of the records, chosen by where their input records lie: a replay chooses the same. Changes
    that no single record caused are chosen by their timestamps and keys."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__()
        self._salt = _hash(name.encode())
        self._limit = int(rate * (1 << 64))

    def push(self, batch: Batch) -> None:
        salt, limit = self._salt, self._limit
        self.emit(batch.where([_mixed(place ^ salt) < limit for place in self._places(batch)]))

    def _places(self, batch: Batch) -> list[int]:
        origin = batch.origin
        if origin is None or origin.of_time:
            pairs = zip(batch.timestamps, batch.encoded_keys(batch.key_codec), strict=True)
            return [at ^ _hash(key or b"") for at, key in pairs]
        offsets, partition = origin.offsets, _mixed(origin.fetch.at.partition)
        return [offsets[batch.row(index)] ^ partition for index in range(batch.size)]


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _mixed(number: int) -> int:
    """All bits of it in each bit of 64 (the end of splitmix: Steele, Lea, Flood, 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
