"""The largest event time so far."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from kstream.state.time import running_largest


@given(st.lists(st.integers()), st.integers())
def test_the_largest_so_far(column: list[int], before: int) -> None:
    assert running_largest(column, before) == list(accumulate(column, max, initial=before))[1:]
