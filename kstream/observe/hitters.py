"""The keys that come most often, of a stream of too many to count them all.

Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, ICDT
2005): so many counters are kept; a key that has none takes over the smallest. It is fed with counted samples, as its
summaries are merged (Agarwal and others: Mergeable Summaries, PODS 2012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from typing import Final

_count: Final = itemgetter(1)


class SpaceSaving:
    """Of the keys seen, one that is more than 1/`counters` of all is among those that are told, and its count is too
    high by no more than that part of all.

    What was seen long ago fades: whenever `fades` keys were seen, all counts are halved.

    Attributes:
        seen: keys that were counted, as far as they have not faded.
    """

    def __init__(self, counters: int = 100, fades: int = 50_000) -> None:
        self._counters, self._fades = counters, fades
        self._counts: dict[bytes, int] = {}
        self._floor = 0  # what a key without a counter may have come to
        self.seen = 0

    def add(self, keys: Iterable[bytes]) -> None:
        counts, floor = self._counts, self._floor
        for key, count in Counter(keys).items():
            counts[key] = counts.get(key, floor) + count
            self.seen += count
        if len(counts) > 2 * self._counters:
            self._cut()
        if self.seen >= self._fades:
            self._counts = {key: half for key, count in counts.items() if (half := count // 2)}
            self._floor, self.seen = self._floor // 2, self.seen // 2

    def _cut(self) -> None:
        ranked = sorted(self._counts.items(), key=_count, reverse=True)
        self._floor = ranked[self._counters][1]
        for key, _ in ranked[self._counters :]:
            del self._counts[key]

    def top(self, number: int) -> list[tuple[bytes, float]]:
        """The keys that come most often, and their shares (0..1) of all: what they have at least."""
        if not self.seen:
            return []
        found = sorted(self._counts.items(), key=_count, reverse=True)[:number]
        return [(key, (count - self._floor) / self.seen) for key, count in found if count > self._floor]
