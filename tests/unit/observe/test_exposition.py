"""The text that Prometheus scrapes: read back by prometheus_client's parser, and judged by promtool."""

from __future__ import annotations

import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kstream.observe.catalogue import CATALOGUE, Metric, Series, full_name
from kstream.observe.exposition import text
from kstream.observe.merging import Merged
from kstream.observe.metrics import Metrics
from support.tools import tool


def samples(body: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels besides `app`, which every sample must have."""
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("app") == "shop"
            key = (sample.name, tuple(sorted(labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def full() -> Merged:
    """An instance of which every metric of the catalogue is known, and users' metrics of all kinds."""
    merged = Merged()
    series = []
    for metric in CATALOGUE.values():
        buckets = tuple(range(len(metric.bounds) + 1)) if metric.kind == "histogram" else None
        series += [Series(metric.name, tuple(f"{name}-{n}" for name in metric.labels), 1.5, buckets) for n in (0, 1)]
    merged.update(0, [one for number, one in enumerate(series) if one.labels or number % 2])
    mine = Metrics()
    mine.counter("orders", "Orders taken.", labels=("country",)).labels('d"e\\\n').inc(3)
    mine.histogram("price_euros", "Prices.", buckets=(10, 100)).observe(50)
    mine.histogram("change_euros", "Changes of prices, up and down.", buckets=(-10, 0, 10)).observe(-3)
    mine.gauge("open_orders", lambda: 7, 'Orders not paid: "open"\nor \\ late.')
    mine.group("business").meter("seen").inc()
    definitions, found = mine.collect()
    merged.update(1, found, definitions)
    return merged


def test_every_series_is_there_with_its_app_and_its_value() -> None:
    found = samples(text(full(), "shop"))
    assert found["kstream_records_consumed_total", (("topic", "topic-1"),)] == 1.5
    assert found["kstream_consumer_lag_records", (("partition", "partition-0"), ("topic", "topic-0"))] == 1.5
    assert found["orders_total", (("country", 'd"e\\\n'),)] == 3.0
    assert found["open_orders", ()] == 7.0
    assert found["business_seen_total", ()] == 1.0
    names = {name for name, _ in found}
    for metric in CATALOGUE.values():
        endings = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        assert {full_name(metric) + ending for ending in endings} <= names


def test_buckets_are_exposed_cumulated() -> None:
    found = samples(text(full(), "shop"))
    assert {labels: value for (name, labels), value in found.items() if name == "price_euros_bucket"} == {
        (("le", "10.0"),): 0.0,
        (("le", "100.0"),): 1.0,
        (("le", "+Inf"),): 1.0,
    }
    assert found["price_euros_sum", ()] == 50.0
    assert found["price_euros_count", ()] == 1.0
    bounds = CATALOGUE["checkpoint_duration_seconds"].bounds
    assert found["kstream_checkpoint_duration_seconds_count", ()] == sum(range(len(bounds) + 1))


def test_counters_and_histograms_without_labels_are_there_at_zero_from_the_start() -> None:
    found = samples(text(Merged(), "shop"))
    assert set(found.values()) == {0.0}
    names = {name for name, _ in found}
    for metric in CATALOGUE.values():
        wanted = not metric.labels and metric.kind != "gauge"
        assert (full_name(metric) in names or full_name(metric) + "_count" in names) == wanted


def test_a_users_metric_of_two_workers_that_differ_leaves_the_rest_alone() -> None:
    merged = full()
    before = samples(text(merged, "shop"))
    definition = Metric("orders_total", "counter", "", "Orders taken.", ("land",))
    merged.update(2, [Series("orders_total", ("de",), 3.0)], [definition])
    assert samples(text(merged, "shop")) == before


@pytest.mark.parametrize("merged", [Merged(), full()], ids=["empty", "full"])
def test_promtool_finds_nothing_to_say(merged: Merged) -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text(merged, "shop"), capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")
