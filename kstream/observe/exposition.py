"""The metrics of an instance as Prometheus scrapes them, written by prometheus_client. Not imported by workers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kstream.observe.catalogue import CATALOGUE, Metric, Series, full_name
from kstream.observe.merging import Merged


def text(merged: Merged, app: str) -> bytes:
    """Prometheus' text format, with the label `app` on every series.

    kstream's counters and histograms that have no labels are there from the start, at zero: `rate` and `increase` see
    the first event only if there was a value before it.
    """
    return generate_latest(_Collector(merged, app))


class _Collector(Collector):
    def __init__(self, merged: Merged, app: str) -> None:
        self._merged, self._app = merged, app

    def collect(self) -> Iterator[Family]:
        found = {metric.name: (metric, series) for metric, series in self._merged.families()}
        for metric in CATALOGUE.values():
            if metric.kind != "gauge" and not metric.labels:
                found.setdefault(metric.name, (metric, [_zero(metric)]))
        for metric, series in found.values():
            yield self._family(metric, series)

    def _family(self, metric: Metric, series: list[Series]) -> Family:
        name, doc, labels = full_name(metric), metric.doc or "(not described)", ("app", *metric.labels)
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(name, doc, labels=labels)
            for one in series:
                counts = map(float, accumulate(one.buckets or ()))
                buckets = list(zip(_bounds(metric.bounds), counts, strict=True))
                histogram.add_metric((self._app, *one.labels), buckets, one.value)
            return histogram
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(name, doc, labels=labels)
        for one in series:
            family.add_metric((self._app, *one.labels), one.value)
        return family


def _zero(metric: Metric) -> Series:
    buckets = (0,) * (len(metric.bounds) + 1) if metric.kind == "histogram" else None
    return Series(metric.name, (), 0.0, buckets)


@cache
def _bounds(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """Values of the label `le`. Cached: few lists of bounds are shared by many series and all scrapes."""
    return (*map(floatToGoString, bounds), "+Inf")
