"""Which windows a time is in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import TopologyError
from kstream.specs.windows import Hopping

MS = timedelta(milliseconds=1)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(-9, 9), st.integers(-60, 60), st.lists(st.integers(-50, 50)))
def test_the_windows_of_a_column_are_those_of_each_time(
    size: int, every: int, offset: int, bound: int, times: list[int]
) -> None:
    windows = Hopping(size * MS, every=min(size, every) * MS, offset=offset * MS)
    each = [
        [start for start in range(at - size + 1, at + 1) if not (start - offset) % windows.advance]
        for at in times
    ]  # fmt: skip
    assert list(map(windows.starts, times)) == each
    assert windows.starts_after(bound, times) == [[start for start in some if start > bound] for some in each]


def test_windows_of_which_a_record_would_be_in_far_too_many_are_refused() -> None:
    assert len(Hopping(seconds=10, every=timedelta(milliseconds=1)).starts(50_000)) == 10_000
    with pytest.raises(TopologyError, match=r"each record would be in 360000 windows, .* \(10000 windows at most\)"):
        Hopping(hours=1, every=timedelta(milliseconds=10))
