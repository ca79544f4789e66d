"""Rates and curves of an instance: counters looked at once a second, and what they say about the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kstream.observe.catalogue import DURATIONS, LATENCIES, PER_RECORD, Series
from kstream.observe.instruments import quantile
from kstream.observe.merging import Merged
from kstream.observe.status import Point

WINDOW: Final = 5.0
"""Seconds over which rates are taken: long enough to be calm, short enough to show what happens."""
MINUTE: Final = 60.0
"""Seconds over which failures are counted: they are rare, and somebody has to see them."""
FAILURES: Final = "operator_failures_total"
SIZES_SECONDS: Final = 10.0
SIZES_KEPT: Final = 31
"""Sizes of stores that are kept, one in SIZES_SECONDS: growth is over five minutes."""
KEPT: Final = 600
"""Points of history, one a second."""

_Labels = tuple[str, ...]


@dataclass(slots=True)
class _Look:
    at: float
    counters: dict[str, dict[_Labels, float]]
    latency: list[int]
    processing: list[int]
    checkpoints: list[int]
    checkpoint_seconds: float


class History:
    """`look` once a second; everything else is about what was seen by then."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self.points: deque[Point] = deque(maxlen=KEPT)
        self._sizes: deque[tuple[float, dict[str, float]]] = deque(maxlen=SIZES_KEPT)
        self._failures: deque[tuple[float, dict[_Labels, float]]] = deque()  # of the last minute, once a second

    def look(self, now: float, merged: Merged) -> None:
        """`now` is monotonic."""
        counters: dict[str, dict[_Labels, float]] = {}
        latency, processing = [0] * (len(LATENCIES) + 1), [0] * (len(PER_RECORD) + 1)
        checkpoints, seconds = [0] * (len(DURATIONS) + 1), 0.0
        sizes: dict[str, float] = {}
        for metric, series in merged.families():
            if metric.kind == "counter":
                counters[metric.name] = {one.labels: one.value for one in series}
            elif metric.name == "record_e2e_latency_seconds":
                latency = _together(latency, series)
            elif metric.name == "state_size_bytes":
                sizes = {one.labels[0]: one.value for one in series}
            elif metric.name == "record_processing_seconds":
                processing = _together(processing, series)
            elif metric.name == "checkpoint_duration_seconds":
                checkpoints, seconds = list(series[0].buckets or checkpoints), series[0].value
        self._looks.append(_Look(now, counters, latency, processing, checkpoints, seconds))
        while len(self._looks) > 2 and now - self._looks[1].at >= WINDOW:
            self._looks.popleft()

        self._failures.append((now, counters.get(FAILURES, {})))
        while len(self._failures) > 2 and now - self._failures[1][0] >= MINUTE:
            self._failures.popleft()

        if not self._sizes or now - self._sizes[-1][0] >= SIZES_SECONDS:
            self._sizes.append((now, sizes))

    def growth(self, store: str) -> float | None:
        """Bytes a second by which a store grows, over the last minutes. What it has of tasks that came or went counts
        too."""
        known = [(at, sizes[store]) for at, sizes in self._sizes if store in sizes]
        if len(known) < 2:
            return None
        (began, first), (now, last) = known[0], known[-1]
        return (last - first) / (now - began)

    def failures(self) -> dict[_Labels, int]:
        """Records that failed at an operator within the last minute, where some did."""
        if not self._failures:
            return {}
        before, last = self._failures[0][1], self._failures[-1][1]
        more = {labels: round(count - before.get(labels, 0.0)) for labels, count in last.items()}
        return {labels: count for labels, count in more.items() if count > 0}

    def totals(self, name: str) -> dict[_Labels, float]:
        """Of each series of a counter, since the instance was started."""
        return self._looks[-1].counters.get(name, {}) if self._looks else {}

    def total(self, name: str) -> float:
        return sum(self.totals(name).values())

    def rates(self, name: str) -> dict[_Labels, float]:
        """Per second, of each series of a counter. New series count from zero."""
        if len(self._looks) < 2:
            return {}
        first, last = self._looks[0], self._looks[-1]
        before, seconds = first.counters.get(name, {}), last.at - first.at
        return {
            labels: max(0.0, value - before.get(labels, 0.0)) / seconds
            for labels, value in last.counters.get(name, {}).items()
        }

    def rate(self, name: str) -> float:
        return sum(self.rates(name).values())

    def latency(self, share: float) -> float | None:
        """The age (seconds) at their commit that this share of the records committed lately did not exceed."""
        if len(self._looks) < 2:
            return None
        return _quantile(LATENCIES, self._looks[0].latency, self._looks[-1].latency, share)

    def processing(self, share: float) -> float | None:
        """The same of the seconds in operators and user code, of the records processed lately."""
        if len(self._looks) < 2:
            return None
        return _quantile(PER_RECORD, self._looks[0].processing, self._looks[-1].processing, share)

    def checkpoint_seconds(self) -> float | None:
        """Mean duration of the checkpoints of the last second or so."""
        if len(self._looks) < 2:
            return None
        before, last = self._looks[-2], self._looks[-1]
        count = sum(last.checkpoints) - sum(before.checkpoints)
        return (last.checkpoint_seconds - before.checkpoint_seconds) / count if count > 0 else None


def _together(counts: list[int], series: Sequence[Series]) -> list[int]:
    for one in series:
        counts = [have + more for have, more in zip(counts, one.buckets or [0] * len(counts), strict=True)]
    return counts


def _quantile(bounds: tuple[float, ...], before: Sequence[int], now: Sequence[int], share: float) -> float | None:
    return quantile(bounds, [last - first for last, first in zip(now, before, strict=True)], share)
