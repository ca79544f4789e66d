"""Whether a PromQL expression speaks of metrics and labels that kstream has.

Prometheus has no types: a name with a slip in it gives no data and no error.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from kstream.observe.catalogue import CATALOGUE, PREFIX

TARGET_LABELS = {"job", "instance", "namespace", "workload"}
"""Of Prometheus' own making, or of the scrape configuration's."""

METRIC = re.compile(r"(?<![\w:])(kstream_\w+)(?:\{([^}]*)\})?")
RECORDED = re.compile(r"(?<![\w:])[\w]+:[\w:]+")
MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)")


def exposed() -> dict[str, tuple[str, ...]]:
    """Every series that can be scraped, with its labels."""
    series: dict[str, tuple[str, ...]] = {}
    for metric in CATALOGUE.values():
        name = PREFIX + metric.name
        if metric.kind == "histogram":
            series[f"{name}_bucket"] = (*metric.labels, "le")
            series[f"{name}_sum"] = series[f"{name}_count"] = metric.labels
        else:
            series[name] = metric.labels
    return series


def problems(expression: str, recorded: Collection[str] = ()) -> list[str]:
    """What is wrong with an expression, in words.

    Args:
        recorded: names of recording rules. They have a colon, and their labels are not looked into.
    """
    series = exposed()
    found = [f"{name} is not recorded" for name in RECORDED.findall(expression) if name not in recorded]
    common = {"app", *TARGET_LABELS}
    grouped = set(common)
    for name, matchers in METRIC.findall(expression):
        if name not in series:
            found.append(f"{name} is not in the catalogue")
            continue
        grouped |= set(series[name])
        found += [
            f"{name} has no label {label}"
            for label in MATCHED.findall(matchers)
            if label not in {*series[name], *common}
        ]
    if "ALERTS" in expression:  # Prometheus' own
        grouped |= {"alertname", "alertstate", "severity"}
    for group in GROUPING.findall(expression):
        for label in re.findall(r"\w+", group):
            if label not in grouped:
                found.append(f"no metric of the expression has the label {label}")
    return found
