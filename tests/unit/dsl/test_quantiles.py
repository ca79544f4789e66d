"""Quantiles, against the values themselves in their order."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.dsl import quantiles
from kstream.dsl.quantiles import MOST, Ranges, merged, ranging, telling
from kstream.errors import KStreamError
from kstream.testing import TestDriver

AT = (0, 0.01, 0.07, 0.25, 0.5, 0.9, 0.99, 1)
numbers = st.floats(-1e300, 1e300) | st.integers(-100, 100) | st.floats(1e-6, 1e-3)


def same(value: Any) -> Any:
    return value


def ranges_of(values: list[float], error: float = 0.01) -> Ranges:
    fold, made = ranging(same, error), None
    for value in values:
        made = fold(made, value)
    assert made is not None
    return made


def exact(values: list[float]) -> list[float]:
    """SQL's PERCENTILE_DISC: the first value up to which at least this share of all lies."""
    values = sorted(values)
    return [values[max(1, math.ceil(round(share * len(values), 6))) - 1] for share in AT]


def anew(ranges: Ranges) -> Ranges:
    return msgspec.json.decode(msgspec.json.encode(ranges), type=Ranges)


@given(st.lists(numbers, min_size=1), st.sampled_from([0.001, 0.01, 0.2]))
def test_results_are_no_further_off_than_the_error(values: list[float], error: float) -> None:
    found = telling(AT, error)(ranges_of(values, error))
    for one, wanted in zip(found, exact(values), strict=True):
        assert abs(one - wanted) <= error * abs(wanted) * (1 + 1e-9)
    assert found[0] == min(values) and found[-1] == max(values)


@given(st.lists(numbers, min_size=1), st.lists(numbers, min_size=1), st.randoms(use_true_random=False))
def test_order_cuts_and_merges_do_not_show(one: list[float], other: list[float], chance: random.Random) -> None:
    fold, cut, turned = ranging(same, 0.01), ranges_of(one), ranges_of([*other, *one][::-1])
    for value in other:
        cut = fold(cut, value)
        if chance.random() < 0.3:
            cut = anew(cut)
    for made in (cut, turned, merged(ranges_of(one), anew(ranges_of(other)))):
        assert made == ranges_of([*one, *other])


def test_what_is_kept_is_bounded_and_the_error_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantiles, "MOST", 64)
    chance = random.Random(3)
    values = [chance.choice((-1, 1)) * 10 ** chance.uniform(-3, 3) for _ in range(4000)]
    whole = ranges_of(values)
    assert len(whole.above) + len(whole.below) <= 64 and whole.doubled == 5  # 2 * 6 * 115 ranges
    error = 0.01
    for _ in range(whole.doubled):
        error = 2 * error / (1 + error**2)
    found = telling(AT, 0.01)(whole)
    for one, wanted in zip(found, exact(values), strict=True):
        assert abs(one - wanted) <= error * abs(wanted) * (1 + 1e-9)
    few = ranges_of(values[:20])
    assert few.doubled < whole.doubled
    assert merged(anew(few), ranges_of(values[20:])) == merged(ranges_of(values[20:]), few) == whole
    assert ranges_of(values[::-1]) == whole
    assert MOST == 4096


def test_floats_at_their_ends() -> None:
    values = [1.7e308, 1.79e308, 5e-324, -1.79e308, 0.0, -0.0]
    found = telling((0, 0.5, 0.8, 1), 0.01)(ranges_of(values))
    assert found == [-1.79e308, 0.0, pytest.approx(1.7e308, rel=0.01), 1.79e308]


@pytest.mark.parametrize("zeros", [[0.0, -0.0, -0.0], [-0.0, 0.0, -0.0], [Decimal("-0.0")]])
def test_there_is_one_zero_whatever_came_first(zeros: list[Any]) -> None:
    number = quantiles.numbering(same)
    for found in (telling(AT, 0.01)(ranges_of(zeros)), quantiles.telling_exactly(AT)([number(one) for one in zeros])):
        assert str(found) == str([0.0] * len(AT))


def test_what_are_numbers() -> None:
    assert telling((0.5, 1), 0.01)(ranges_of([Decimal("2.5"), True, 3])) == [pytest.approx(2.5, rel=0.01), 3.0]


@pytest.mark.parametrize("wrong", [None, "5", b"5", math.nan, math.inf, 10**400, [1]], ids=lambda one: str(one)[:5])
def test_what_is_no_number_fails_and_leaves_nothing(wrong: object) -> None:
    fold, made = ranging(same, 0.01), ranges_of([1.0])
    before = anew(made)
    with pytest.raises(KStreamError, match=r"quantiles got .* filter such records out"):
        fold(made, wrong)
    assert made == before


def test_results_are_those_of_a_run_without_crashes() -> None:
    app = kstream.App("quantiles")
    source, out = app.topic("in", key=str, value=float), app.topic("out", key=kstream.Windowed[str], value=list[float])
    group = app.stream(source).group_by_key().window(kstream.Tumbling(seconds=1), grace=timedelta(0))
    group.quantiles(same, AT, name="q", emit="close").to(out)
    chance = random.Random(8)
    sent = [(chance.lognormvariate(3, 2), at) for at in range(1_000, 4_000, 3)]
    with TestDriver(app, partitions=1) as driver:
        for value, at in sent:
            driver.send(source, value, key="a", timestamp=at)
            if chance.random() < 0.1:
                driver.crash() if chance.random() < 0.5 else driver.commit()
        found = {record.key.start: record.value for record in driver.records(out)}
    assert list(found) == [1000, 2000]
    for start, results in found.items():
        wanted = exact([value for value, at in sent if start <= at < start + 1000])
        assert results == [pytest.approx(one, rel=0.01) for one in wanted]
        assert results == telling(AT, 0.01)(ranges_of([value for value, at in sent if start <= at < start + 1000]))
