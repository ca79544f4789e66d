"""Metrics that users make: `ctx.metrics` in functions and agents, `worker.metrics` in the app's lifespan.

They have Prometheus' types and naming, and look like prometheus_client's. Its own objects are not used: importing it
takes 37 ms and 3 MB in every worker, and it has neither a bound on label sets nor gauges of several tasks.
Counting is thread-safe.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Final, TypeVar

from kstream.errors import MetricsError
from kstream.observe import instruments
from kstream.observe.catalogue import DURATIONS, Kind, Merge, Metric, Series
from kstream.observe.metricrules import NAME, check, stem, utf8

log = logging.getLogger(__name__)

I = TypeVar("I", bound="_Instrument")  # noqa: E741  # as in Instrument

MAX_LABEL_SETS: Final = 100
"""Of one metric in a worker; what comes after them is counted under `OTHER`."""

OTHER: Final = "other"

_MERGES: Final[Mapping[str, Callable[[list[float]], float]]] = {"sum": sum, "max": max, "min": min}


class Metrics:
    """The metrics of one worker, as one of its tasks sees them (or the lifespan).

    A metric is made by the first call that names it; later calls are a lookup, so that a function may write
    `ctx.metrics.counter("orders").inc()` for every record.

    All methods that name a metric raise MetricsError, in one line, when the name is not one Prometheus takes, when it
    is taken (by kstream, or by a metric of another kind or with other labels), or when labels or buckets do not do.
    """

    def __init__(self, families: _Families | None = None, owner: str = "", prefix: str = "") -> None:
        self._families = families or _Families()
        self._owner, self._prefix = owner, prefix
        self._found: dict[str, _Instrument] = {}
        self._groups: dict[str, Metrics] = {}

    def counter(self, name: str, doc: str = "", *, labels: Sequence[str] = ()) -> Counter:
        """Counts up. The exposed name ends in `_total`, which may be left out here."""
        found = self._found.get(name)
        if type(found) is Counter and found.metric.labels == labels:
            return found
        exposed = name if name.endswith("_total") else name + "_total"
        return self._make(Counter, name, self._metric(exposed, "counter", doc, labels))

    def meter(self, name: str, doc: str = "", *, labels: Sequence[str] = ()) -> Counter:
        """A counter: its rate is Prometheus' to take, `rate(name_total[1m])`, over any time and all instances."""
        return self.counter(name, doc, labels=labels)

    def histogram(
        self, name: str, doc: str = "", *, labels: Sequence[str] = (), buckets: Sequence[float] | None = None
    ) -> Histogram:
        """Counts observations by size.

        Args:
            buckets: upper bounds, ascending, without infinity; by default 1 ms to 60 s, in seconds.
        """
        found = self._found.get(name)
        if type(found) is Histogram and found.metric.labels == labels and buckets in (None, found.metric.bounds):
            return found
        known = self._families.get(self._prefix + name)
        bounds = known.metric.bounds if buckets is None and known else tuple(map(float, buckets or DURATIONS))
        return self._make(Histogram, name, self._metric(name, "histogram", doc, labels, bounds=bounds))

    def gauge(
        self,
        name: str,
        function: Callable[[], float] | None = None,
        doc: str = "",
        *,
        labels: Sequence[str] = (),
        merge: Merge = "sum",
    ) -> Gauge:
        """A level, set by `set`, or asked of `function` whenever a report is due (twice a second).

        Every task has its own, and so has the lifespan; what is exposed is their sum (or what `merge` says), so that
        it does not matter which worker has which task. It is gone with its task. A function given again replaces
        the one before.
        """
        if function is not None and not callable(function):
            raise MetricsError(f"metric {self._prefix + name}: the second argument of gauge is a function, or doc=")
        found = self._found.get(name)
        if type(found) is not Gauge or found.metric.labels != labels or found.metric.merge != merge:
            found = self._make(Gauge, name, self._metric(name, "gauge", doc, labels, merge))
        if function is not None:
            found.set_function(function)
        return found

    def group(self, name: str) -> Metrics:
        """Metrics whose names begin with `name_`; groups may be nested."""
        if name not in self._groups:
            if not NAME.fullmatch(name):
                raise MetricsError(
                    f"metric group {name!r}: a name has letters, digits and '_', and does not begin with a digit"
                )
            self._groups[name] = Metrics(self._families, self._owner, f"{self._prefix}{name}_")
        return self._groups[name]

    def of_task(self, task: str) -> Metrics:
        """The same metrics as this task sees them: its gauges are its own."""
        return Metrics(self._families, task, self._prefix)

    def forget(self, task: str) -> None:
        """The task has left this worker: its gauges are gone. What it counted stays."""
        self._families.forget(task)

    def collect(self) -> tuple[list[Metric], list[Series]]:
        """All definitions and all series as they are now. Calls the gauges' functions, so it is for the reporter."""
        return self._families.collect()

    def _metric(
        self,
        name: str,
        kind: Kind,
        doc: str,
        labels: Sequence[str],
        merge: Merge = "sum",
        bounds: tuple[float, ...] = (),
    ) -> Metric:
        name = self._prefix + name
        if isinstance(labels, str):
            raise MetricsError(f"metric {name}: labels are a tuple of names, ({labels!r},) for a single one")
        return Metric(name, kind, "", utf8(doc), tuple(labels), merge, bounds)

    def _make(self, kind: type[I], name: str, metric: Metric) -> I:
        made = self._families.define(metric).instrument(kind, self._owner)
        self._found[name] = made
        return made


class _Instrument:
    """What counters, gauges and histograms have in common: it is either one series, or a series for each label set."""

    __slots__ = ("_family", "_lock", "_series", "metric")

    def __init__(self, family: _Family, *, one: bool) -> None:
        self.metric = family.metric
        self._family = family
        self._lock = Lock()
        self._series: dict[tuple[str, ...], _Instrument] | None = None if one else {}

    def labels(self: I, *values: object, **named: object) -> I:
        """The series with these label values, by position or by name. Never put keys of records here: after a hundred
        label sets, all further ones are counted under `other`.

        Raises:
            MetricsError: not exactly the labels that were declared.
        """
        names = self.metric.labels
        if self._series is None:
            raise self._misuse("was declared without labels, so none can be given")
        try:
            key = tuple([str(named[name]) for name in names]) if named else tuple(map(str, values))
        except KeyError:
            key = ()
        if len(key) != len(names) or (named and (values or len(named) != len(names))):
            raise self._misuse(f"give exactly its labels: {', '.join(names)}")
        found = self._series.get(key)
        return found if found is not None else self._add(key)  # type: ignore[return-value]

    def _add(self: I, key: tuple[str, ...]) -> I:
        assert self._series is not None
        admitted = self._family.admit(key)
        with self._lock:
            made = self._series.get(admitted)
            if made is None:
                made = self._series[admitted] = type(self)(self._family, one=True)
            return made  # type: ignore[return-value]

    def each(self: I) -> list[tuple[tuple[str, ...], I]]:
        """Label values and series."""
        if self._series is None:
            return [((), self)]
        with self._lock:
            return list(self._series.items())  # type: ignore[arg-type]

    def _misuse(self, text: str) -> MetricsError:
        return MetricsError(f"metric {self.metric.name}: {text}")

    def _refuse(self, value: float) -> MetricsError:
        """Why a call with this value is none for this instrument."""
        if self._series is not None:
            names = ", ".join(f"{name}=..." for name in self.metric.labels)
            return self._misuse(f"say which series, with .labels({names})")
        return self._misuse(f"{value!r} cannot be counted: a count grows by a finite number")


class Counter(_Instrument):
    """Counts calls: what is done again after an abort is counted again."""

    __slots__ = ("value",)

    def __init__(self, family: _Family, *, one: bool) -> None:
        super().__init__(family, one=one)
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Raises MetricsError for a negative or infinite amount, and without the labels that were declared."""
        if self._series is not None or not 0 <= amount < math.inf:
            raise self._refuse(amount)
        with self._lock:
            self.value += amount


class Gauge(_Instrument):
    """A level. It is not exposed before it was set for the first time."""

    __slots__ = ("_function", "_value")

    def __init__(self, family: _Family, *, one: bool) -> None:
        super().__init__(family, one=one)
        self._value: float | None = None
        self._function: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        if self._series is not None:
            raise self._refuse(value)
        self._value = float(value)

    def inc(self, amount: float = 1.0) -> None:
        if self._series is not None:
            raise self._refuse(amount)
        with self._lock:
            self._value = (self._value or 0.0) + amount

    def dec(self, amount: float = 1.0) -> None:
        self.inc(-amount)

    def set_function(self, function: Callable[[], float]) -> None:
        """`function` is asked when a report is due, on the worker's thread: it must be quick."""
        if self._series is not None:
            raise self._refuse(0)
        self._function = function

    def read(self) -> float | None:
        """The level now; None when it is unknown: never set, not a finite number, or its function failed."""
        if self._function is None:
            value = self._value
        else:
            try:
                value = float(self._function())
            except Exception as error:  # user code: whatever it is, the other metrics are still reported
                self._family.complain(f"its function failed, it is left out: {type(error).__name__}: {error}", error)
                return None
        return value if value is not None and math.isfinite(value) else None


class Histogram(_Instrument):
    """Counts observations by size; Prometheus takes rates, means and quantiles of it."""

    __slots__ = ("counts",)

    def __init__(self, family: _Family, *, one: bool) -> None:
        super().__init__(family, one=one)
        self.counts = instruments.Histogram(family.metric.bounds)

    def observe(self, value: float) -> None:
        """Raises MetricsError for what is not finite, and without the labels that were declared."""
        if self._series is not None or not -math.inf < value < math.inf:
            raise self._refuse(value)
        with self._lock:
            self.counts.observe(float(value))

    def read(self) -> tuple[float, tuple[int, ...]]:
        """Sum, and counts by bucket."""
        with self._lock:
            return float(self.counts.total), tuple(self.counts.counts)


class _Family:
    """One metric of a worker: its definition, the label sets it may have, and its instruments by owner (a task)."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._lock = Lock()
        self._admitted: set[tuple[str, ...]] = set()
        self._instruments: dict[str, _Instrument] = {}
        self._complained = False

    def instrument(self, kind: type[I], owner: str) -> I:
        """Counters and histograms belong to the worker, gauges to their owner."""
        owner = owner if kind is Gauge else ""
        with self._lock:
            if owner not in self._instruments:
                self._instruments[owner] = kind(self, one=not self.metric.labels)
            return self._instruments[owner]  # type: ignore[return-value]

    def admit(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """The label set under which this one is counted: itself, or `other` in all labels when there are too many."""
        key = tuple(map(utf8, key))
        with self._lock:
            if key in self._admitted:
                return key
            if len(self._admitted) < MAX_LABEL_SETS:
                self._admitted.add(key)
                return key
        self.complain(f"has {MAX_LABEL_SETS} label sets, all further ones are counted under {OTHER!r}")
        return (OTHER,) * len(key)

    def complain(self, text: str, error: Exception | None = None) -> None:
        """Logged once a metric."""
        if not self._complained:
            self._complained = True
            log.warning("metric %s: %s", self.metric.name, text, exc_info=error)

    def forget(self, owner: str) -> None:
        with self._lock:
            if self.metric.kind == "gauge":
                self._instruments.pop(owner, None)

    def series(self) -> list[Series]:
        with self._lock:
            instruments = list(self._instruments.values())
        name = self.metric.name
        found: list[Series] = []
        levels: dict[tuple[str, ...], list[float]] = {}
        for instrument in instruments:
            for labels, one in instrument.each():
                if isinstance(one, Counter):
                    found.append(Series(name, labels, float(one.value)))
                elif isinstance(one, Histogram):
                    found.append(Series(name, labels, *one.read()))
                elif isinstance(one, Gauge) and (level := one.read()) is not None:
                    levels.setdefault(labels, []).append(level)
        merge = _MERGES[self.metric.merge]
        return found + [Series(name, labels, merge(each)) for labels, each in levels.items()]


class _Families:
    """All metrics of a worker, by name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_name: dict[str, _Family] = {}
        self._stems: dict[str, str] = {}

    def get(self, name: str) -> _Family | None:
        return self._by_name.get(name)

    def define(self, metric: Metric) -> _Family:
        """The family of this metric; made when there is none. Raises MetricsError, see `Metrics`."""
        with self._lock:
            known = self._by_name.get(metric.name)
            if known is None:
                check(metric)
                its_stem = stem(metric.name)
                if its_stem in self._stems:
                    raise MetricsError(f"metric {metric.name}: {self._stems[its_stem]} exists, choose another name")
                self._stems[its_stem] = metric.name
                known = self._by_name[metric.name] = _Family(metric)
                return known
        have = known.metric
        for what in ("kind", "labels", "merge", "bounds"):
            if getattr(have, what) != getattr(metric, what):
                raise MetricsError(
                    f"metric {metric.name}: it has {what} {getattr(have, what)!r} elsewhere, "
                    f"and {getattr(metric, what)!r} here"
                )
        return known

    def forget(self, owner: str) -> None:
        for family in list(self._by_name.values()):
            family.forget(owner)

    def collect(self) -> tuple[list[Metric], list[Series]]:
        families = list(self._by_name.values())
        return [family.metric for family in families], [series for family in families for series in family.series()]
