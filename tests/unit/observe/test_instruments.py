"""Histograms count everything once; quantiles lie where Prometheus' do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.observe.instruments import Histogram, quantile

BOUNDS = (0.1, 1.0, 10.0)
seconds = st.floats(0, 100, allow_nan=False)


def test_observations_fall_into_the_first_bucket_that_holds_them() -> None:
    histogram = Histogram(BOUNDS)
    for value in (0.0, 0.1, 0.11, 1.0, 10.0, 10.1):
        histogram.observe(value)
    histogram.observe(0.5, 4)
    assert histogram.counts == [2, 6, 1, 1]
    assert histogram.total == pytest.approx(0.1 + 0.11 + 1 + 10 + 10.1 + 2)


@given(ends=st.tuples(seconds, seconds), count=st.integers(1, 10_000))
def test_a_spread_counts_each_once_and_in_proportion(ends: tuple[float, float], count: int) -> None:
    low, high = sorted(ends)
    histogram = Histogram(BOUNDS)
    histogram.spread(low, high, count)
    assert sum(histogram.counts) == count and min(histogram.counts) >= 0
    assert histogram.total == pytest.approx((low + high) / 2 * count)
    edges = (0.0, *BOUNDS, float("inf"))
    for got, start, end in zip(histogram.counts, edges, edges[1:], strict=False):
        inside = max(0.0, min(high, end) - max(low, start))
        if high > low:
            assert got == pytest.approx(count * inside / (high - low), abs=1.01)


def test_quantiles_lie_within_their_bucket() -> None:
    counts = [10, 80, 10, 0]
    assert quantile(BOUNDS, counts, 0.5) == pytest.approx(0.1 + 0.9 * 40 / 80)
    assert quantile(BOUNDS, counts, 0.05) == pytest.approx(0.05)
    assert quantile(BOUNDS, counts, 0.99) == pytest.approx(1.0 + 9.0 * 9 / 10)
    assert quantile(BOUNDS, [0, 0, 0, 3], 0.5) == 10.0, "beyond the last bound nothing is known"
    assert quantile(BOUNDS, [0, 0, 0, 0], 0.5) is None
