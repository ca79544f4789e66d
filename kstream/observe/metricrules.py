"""What a user's metric may be called, and what it may consist of: Prometheus' rules, and names that are kstream's."""

from __future__ import annotations

import math
import re
from typing import Final, get_args

from kstream.errors import MetricsError
from kstream.observe.catalogue import CATALOGUE, PREFIX, Merge, Metric

MAX_BUCKETS: Final = 50
MERGES: Final[tuple[str, ...]] = get_args(Merge)
NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Without the colon, which is for Prometheus' recording rules."""

_RESERVED_LABELS: Final = frozenset({"app", "le", "quantile", "instance", "job"})
_SUFFIXES: Final = ("_total", "_sum", "_count", "_bucket")
"""Endings that Prometheus' types give to names. Two metrics that differ only by one of these could meet."""


def utf8(text: str) -> str:
    """The text without lone surrogates: one in a label would break the whole report."""
    return text.encode(errors="replace").decode()


def stem(name: str) -> str:
    """The name without what Prometheus' types append: `orders_total` and `orders_count` have the same."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def check(metric: Metric) -> None:
    """Raises MetricsError when Prometheus would not take this metric, or kstream has the name."""
    name = metric.name

    def refuse(text: str) -> MetricsError:
        return MetricsError(f"metric {name!r}: {text}")

    if not NAME.fullmatch(name):
        raise refuse("a name has letters, digits and '_', and does not begin with a digit")
    if name.startswith(PREFIX):
        raise refuse(f"names with {PREFIX} are kstream's own, choose another")
    if name in CATALOGUE:
        raise refuse("kstream itself has a metric of this name, choose another or put it in a group")
    if metric.kind != "counter" and stem(name) != name:
        raise refuse(f"a {metric.kind} does not end in {name[len(stem(name)) :]}, choose another name")
    if metric.merge not in MERGES:
        raise refuse(f"merge is one of {', '.join(MERGES)}")
    for label in metric.labels:
        if not NAME.fullmatch(label) or label.startswith("__") or label in _RESERVED_LABELS:
            raise refuse(f"{label!r} cannot be a label, choose another name")
    if len(set(metric.labels)) != len(metric.labels):
        raise refuse("a label is given twice")
    if metric.kind == "histogram":
        bounds = metric.bounds
        if any(not math.isfinite(bound) for bound in bounds) or list(bounds) != sorted(set(bounds)):
            raise refuse("buckets are finite upper bounds, ascending; infinity is added")
        if len(bounds) > MAX_BUCKETS:
            raise refuse(f"{len(bounds)} buckets, at most {MAX_BUCKETS} are allowed")
