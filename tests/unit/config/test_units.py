"""Quantities as they are shown can be given again."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from kstream.config import units


@given(some.integers(0, 10**13).map(lambda milliseconds: milliseconds / 1000))
def test_a_duration_reads_back(value: float) -> None:
    assert units.seconds(units.show_seconds(value)) == pytest.approx(value, rel=1e-9)


@given(some.integers(0, 2**60))
@example(2**53 + 1)
def test_a_size_reads_back(value: int) -> None:
    assert units.size(units.show_size(value)) == value


@pytest.mark.parametrize(
    "value,text",
    [(0, "0s"), (0.2, "200ms"), (0.0125, "12.5ms"), (1, "1s"), (1.25, "1.25s"), (60, "1m"), (90, "1.5m"), (86400, "1d"),
     (500, "500s"), (5400, "1.5h")],
)  # fmt: skip
def test_durations(value: float, text: str) -> None:
    assert units.show_seconds(value) == text


@pytest.mark.parametrize("value,text", [(0, "0B"), (512 << 20, "512MiB"), (1 << 30, "1GiB"), (1_048_588, "1048588B")])
def test_sizes(value: int, text: str) -> None:
    assert units.show_size(value) == text
