"""How long records have waited, from how far the log went when somebody looked."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from kstream.runtime.task.arrivals import KEPT, Arrivals


@given(
    arrivals=st.lists(st.floats(0, 1000), max_size=200).map(sorted),
    looks=st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1)), min_size=1, max_size=150).map(sorted),
)
def test_the_truth_lies_between_what_is_said(arrivals: list[float], looks: list[tuple[float, float]]) -> None:
    """Record n comes at arrivals[n]; at each look some more of those that are there have been read and committed."""
    known, position = Arrivals(), 0
    before = bisect_right(arrivals, looks[0][0])
    for now, share in looks:
        end = bisect_right(arrivals, now)
        known.heard(end, now, position, position)
        waits = known.waits(position, now)
        if position < end:
            assert 0 <= waits <= now - arrivals[position]
            assert (position < before) == known.were_there(position)
            within = known.within(position, now)
            assert (within is None) == (position < before)
            if within is not None:
                assert within >= now - arrivals[position] - 1e-9
        else:
            assert waits == 0
        position += round((end - position) * share)


def test_where_looks_are_few_it_is_exact_to_a_look() -> None:
    known = Arrivals()
    for second in range(30):  # a record a second, none of which is read
        known.heard(second, float(second), 0, 0)
    assert known.waits(0, 29.0) == 28.0 and known.waits(20, 29.0) == 8.0 and known.waits(29, 29.0) == 0.0
    assert known.within(20, 29.0) == 9.0


def test_a_quiet_input_is_known_to_hold_still_only_where_nothing_waits() -> None:
    read, waits = Arrivals(), Arrivals()
    for second in range(100):
        read.heard(5, float(second), 5, 5)
        waits.heard(5, float(second), 4, 4)
    assert read.within(5, 100.0) == 1.0  # whatever comes now came within a second
    assert waits.within(5, 100.0) == 100.0  # the end that is known may be an old one


def test_it_stays_small_and_remembers_the_first() -> None:
    known = Arrivals()
    for second in range(100_000):
        known.heard(second + 1, float(second), 0, 0)
    assert sum(1 for _ in known._looks) <= KEPT
    assert known.waits(0, 100_000.0) == 100_000.0
    assert known.waits(99_999, 100_000.0) == 1.0


def test_a_log_that_has_become_shorter_begins_anew() -> None:
    known = Arrivals()
    known.heard(100, 0.0, 100, 100)
    known.heard(3, 10.0, 0, 0)
    assert known.waits(0, 20.0) == 10.0 and known.were_there(0) and known.within(0, 20.0) is None
