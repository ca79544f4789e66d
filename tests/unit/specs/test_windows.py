"""Which windows a time is in."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

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
