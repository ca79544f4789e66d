"""What is counted on the way: plain objects, changed once a batch by one thread, read when a report is due."""

from __future__ import annotations

from bisect import bisect_left

from kstream.observe.catalogue import Series


class Histogram:
    """Counts by bucket.

    Args:
        bounds: upper bounds of the buckets, ascending; a last one without a bound is added.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """`count` observations of `value`."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def spread(self, low: float, high: float, count: int) -> None:
        """`count` observations, spread evenly from `low` to `high`."""
        first, last = bisect_left(self.bounds, low), bisect_left(self.bounds, high)
        self.total += (low + high) / 2 * count
        if first == last:
            self.counts[first] += count
            return
        below = 0
        for bucket in range(first, last):
            up_to = round(count * (self.bounds[bucket] - low) / (high - low))
            self.counts[bucket] += up_to - below
            below = up_to
        self.counts[last] += count - below

    def series(self, name: str, *labels: str) -> Series:
        return Series(name, labels, self.total, tuple(self.counts))


def quantile(bounds: tuple[float, ...], counts: list[int], share: float) -> float | None:
    """The value below which this share (0..1) of the observations lies, by interpolation within its bucket, as
    Prometheus' `histogram_quantile` has it; None without observations."""
    rank = share * sum(counts)
    if not rank:
        return None
    seen = 0
    for index, count in enumerate(counts):
        if count and seen + count >= rank:
            if index == len(bounds):
                return bounds[-1]
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - seen) / count
        seen += count
    return bounds[-1]
