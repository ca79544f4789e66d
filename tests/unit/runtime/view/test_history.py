"""Rates are differences over the last seconds, whatever comes and goes."""

from __future__ import annotations

import pytest

from kstream.observe.catalogue import LATENCIES, Series
from kstream.observe.instruments import Histogram
from kstream.observe.merging import Merged
from kstream.runtime.view.history import History


def test_rates_of_the_last_five_seconds() -> None:
    merged, history = Merged(), History()
    for second in range(20):
        rate = 100 if second < 10 else 300
        count = 100 * min(second, 10) + 300 * max(0, second - 10)
        merged.update("a", [Series("records_consumed_total", ("t",), count)])
        history.look(float(second), merged)
        if second in (9, 19):
            assert history.rate("records_consumed_total") == pytest.approx(rate)
    assert history.total("records_consumed_total") == 1000 + 2700
    assert history.rate("checkpoints_total") == 0.0


def test_a_worker_that_dies_is_no_negative_rate() -> None:
    merged, history = Merged(), History()
    merged.update("a", [Series("checkpoints_total", (), 50)])
    history.look(0.0, merged)
    merged.ended("a")
    history.look(1.0, merged)
    assert history.rate("checkpoints_total") == 0.0
    merged.update("a", [Series("checkpoints_total", (), 3)])
    history.look(2.0, merged)
    assert history.rate("checkpoints_total") == pytest.approx(1.5)


def test_latencies_are_those_of_the_last_seconds() -> None:
    merged, history, latency = Merged(), History(), Histogram(LATENCIES)
    latency.observe(100.0, 1000)
    for second in range(10):
        merged.update("a", [latency.series("record_e2e_latency_seconds", "t")])
        history.look(float(second), merged)
    assert history.latency(0.5) is None, "nothing was committed lately"
    latency.observe(0.03, 99)
    latency.observe(3.0, 1)
    merged.update("a", [latency.series("record_e2e_latency_seconds", "t")])
    history.look(10.0, merged)
    assert 0.025 <= (history.latency(0.5) or 0) <= 0.05 < (history.latency(0.999) or 0) <= 5.0


def test_checkpoints_of_the_last_second() -> None:
    merged, history, durations = Merged(), History(), Histogram((0.1, 1.0))
    durations.counts += [0] * 13  # as long as the catalogue's
    for second, seconds in enumerate((0.5, 0.1, 0.3)):
        durations.observe(seconds)
        merged.update("a", [durations.series("checkpoint_duration_seconds")])
        history.look(float(second), merged)
    assert history.checkpoint_seconds() == pytest.approx(0.3)
    history.look(3.0, merged)
    assert history.checkpoint_seconds() is None


def test_failures_are_those_of_the_last_minute() -> None:
    merged, history = Merged(), History()
    assert history.failures() == {}
    failed = 0
    for second in range(200):
        failed += 2 if second in (50, 100, 101) else 0
        merged.update("a", [Series("operator_failures_total", labels, failed) for labels in (("p", "map"),)])
        merged.update("b", [Series("operator_failures_total", ("p", "agent"), 0)])
        history.look(float(second), merged)
        expected = {50: 2, 99: 2, 100: 4, 101: 6, 109: 6, 112: 4, 159: 4, 163: 0}.get(second)
        if expected is not None:
            assert history.failures() == ({("p", "map"): expected} if expected else {}), second


def test_failures_before_the_first_look_count_too() -> None:
    """A worker reports at once; what it reports later begins at zero."""
    merged, history = Merged(), History()
    history.look(0.0, merged)
    merged.update("a", [Series("operator_failures_total", ("p", "map"), 3)])
    history.look(1.0, merged)
    assert history.failures() == {("p", "map"): 3}


def test_stores_grow_by_what_they_did_in_the_last_five_minutes() -> None:
    merged, history, told = Merged(), History(), dict[int, float | None]()
    for second in range(901):
        merged.update("a", [Series("state_size_bytes", ("n",), 1000 + 10 * min(second, 300))])
        history.look(float(second), merged)
        told[second] = history.growth("n")
    assert told[9] is None, "there is one size of it"
    assert [told[second] for second in (10, 300, 450, 600, 900)] == pytest.approx([10, 10, 5, 0, 0])
    assert history.growth("none") is None
