"""The catalogue keeps Prometheus' conventions, and its page is up to date."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from kstream.observe.catalogue import CATALOGUE, SECTIONS, Metric, full_name

DOCS = Path(__file__).parents[3] / "docs"

METRICS = pytest.mark.parametrize("metric", list(CATALOGUE.values()), ids=list(CATALOGUE))

NOT_BASE_UNITS = re.compile(r"(?:^|_)(?:ms|milliseconds?|us|micros|minutes?|hours?|days?|kb|mb|kib|mib|percent)(?:_|$)")
UNBOUNDED = {"key", "keys", "offset", "timestamp", "value", "trace", "id", "user"}


def test_names_are_unique() -> None:
    assert len(CATALOGUE) == sum(map(len, SECTIONS.values()))


@METRICS
def test_a_name_says_its_type_and_its_unit(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", metric.name)
    assert full_name(metric) == f"kstream_{metric.name}"
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert not metric.name.endswith(("_count", "_sum", "_bucket"))
    assert not NOT_BASE_UNITS.search(metric.name)
    stem = metric.name.removesuffix("_total")
    if metric.unit.startswith("seconds"):
        assert stem.endswith("_seconds")
    if metric.unit == "bytes":
        assert stem.endswith("_bytes")
    if stem.endswith("_seconds"):
        assert metric.unit.startswith("seconds")
    if stem.endswith("_bytes"):
        assert metric.unit == "bytes"


@METRICS
def test_its_labels_are_few_and_bounded(metric: Metric) -> None:
    assert len(set(metric.labels)) == len(metric.labels) <= 4
    assert not UNBOUNDED & set(metric.labels)
    assert not {"app", "le", "instance", "job"} & set(metric.labels)
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)


@METRICS
def test_its_meaning_is_one_sentence_and_its_unit_is_said(metric: Metric) -> None:
    assert metric.unit
    assert metric.doc.endswith(".")
    assert metric.doc[0].isupper()
    assert ". " not in metric.doc
    assert "\n" not in metric.doc
    assert "|" not in metric.doc  # it is a cell of a table


@METRICS
def test_bounds_ascend_and_only_histograms_have_them(metric: Metric) -> None:
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.merge == "sum" or metric.kind == "gauge"


def test_the_page_of_metrics_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate_metrics", DOCS / "generate_metrics.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "metrics.md").read_text()
    assert page == module.render(page), "run: python docs/generate_metrics.py"
    for metric in CATALOGUE.values():
        assert page.count(f"| `{full_name(metric)}` |") == 1
