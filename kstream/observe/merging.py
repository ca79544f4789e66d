"""The metrics of an instance: what its workers report again and again, added up.

Nothing is shared through files: a worker reports all of its series over its pipe, the supervisor keeps the latest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from operator import add
from threading import Lock
from typing import Final

from kstream.observe.catalogue import CATALOGUE, Metric, Series

log = logging.getLogger(__name__)

_Labels = tuple[str, ...]

_GAUGES: Final[Mapping[str, Callable[[float, float], float]]] = {"sum": add, "max": max, "min": min}


class Merged:
    """Thread-safe. A source is whatever reports: a worker process, the supervisor itself.

    Counters and histograms of a source that ended are kept, so that the instance's never go back when a worker is
    started again. Its gauges vanish.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._latest: dict[Hashable, dict[str, list[Series]]] = {}
        self._ended: dict[str, dict[_Labels, Series]] = {}
        self._users: dict[str, Metric] = {}
        self._refused: set[str] = set()

    def update(self, source: Hashable, series: Sequence[Series], definitions: Sequence[Metric] = ()) -> None:
        """All series of a source as they are now; they replace what it said before.

        Args:
            definitions: of the users' metrics among them. Of two that differ (two workers may run different code), the
                first is kept, and the series of the other are left out.
        """
        by_name: dict[str, list[Series]] = {}
        for one in series:
            if one.name in by_name:
                by_name[one.name].append(one)
            else:
                by_name[one.name] = [one]
        with self._lock:
            for metric in definitions:
                if not self._fits(metric):
                    by_name.pop(metric.name, None)
            for name in [name for name in by_name if name not in CATALOGUE and name not in self._users]:
                self._refuse(name, "is reported and was never defined")
                del by_name[name]
            self._latest[source] = by_name

    def ended(self, source: Hashable) -> None:
        """The source will not report any more; one of the same name starts from zero."""
        with self._lock:
            for name, series in self._latest.pop(source, {}).items():
                metric = self._metric(name)
                if metric.kind != "gauge":
                    self._ended[name] = _together(metric, self._ended.get(name, {}), series)

    def families(self) -> Iterator[tuple[Metric, list[Series]]]:
        """Every metric that has series, those of the catalogue first, with its merged series ordered by labels."""
        with self._lock:
            metrics = [*CATALOGUE.values(), *(self._users[name] for name in sorted(self._users))]
            found = [(metric, self._merge(metric)) for metric in metrics]
        for metric, series in found:
            if series:
                yield metric, [series[labels] for labels in sorted(series)]

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """Of all series with these label values (of all, without any), merged into one: a count, a level, or the sum
        of a histogram. None when there is no such series. Names of kstream's own metrics are without the prefix."""
        found = self._one(name, labels)
        return None if found is None else found.value

    def buckets(self, name: str, labels: Mapping[str, str] | None = None) -> tuple[int, ...] | None:
        """As `value`, the counts of a histogram by bucket."""
        found = self._one(name, labels)
        return None if found is None else found.buckets

    def _one(self, name: str, labels: Mapping[str, str] | None) -> Series | None:
        with self._lock:
            metric = self._metric(name)
            series = self._merge(metric).values()
        if labels:
            wanted = [(metric.labels.index(label), value) for label, value in labels.items()]
            series = [one for one in series if all(one.labels[at] == value for at, value in wanted)]  # type: ignore[assignment]
        total: Series | None = None
        for one in series:
            total = one if total is None else _sum(metric, total, one)
        return total

    def _metric(self, name: str) -> Metric:
        """Raises KeyError when nobody defined it."""
        return CATALOGUE.get(name) or self._users[name]

    def _merge(self, metric: Metric) -> dict[_Labels, Series]:
        total = self._ended.get(metric.name, {})
        for by_name in self._latest.values():
            if series := by_name.get(metric.name):
                total = _together(metric, total, series)
        return total

    def _fits(self, metric: Metric) -> bool:
        """Whether a user's metric is defined as it was first."""
        first = self._users.setdefault(metric.name, metric)
        if _shape(first) == _shape(metric):
            return True
        self._refuse(metric.name, f"is defined as {_shape(first)} and as {_shape(metric)}: only the first is exposed")
        return False

    def _refuse(self, name: str, text: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("metric %s %s", name, text)


def _shape(metric: Metric) -> tuple[object, ...]:
    return metric.kind, metric.labels, metric.merge, metric.bounds


def _together(metric: Metric, total: Mapping[_Labels, Series], series: Sequence[Series]) -> dict[_Labels, Series]:
    """A new total: Series are never changed, so that several totals may hold the same."""
    found = dict(total)
    for one in series:
        have = found.get(one.labels)
        found[one.labels] = one if have is None else _sum(metric, have, one)
    return found


def _sum(metric: Metric, one: Series, other: Series) -> Series:
    if metric.kind == "gauge":
        return Series(one.name, one.labels, _GAUGES[metric.merge](one.value, other.value))
    buckets = None
    if one.buckets is not None and other.buckets is not None:
        buckets = tuple(map(add, one.buckets, other.buckets))
    return Series(one.name, one.labels, one.value + other.value, buckets)
