"""Times of records that wait: each is read once, and how many are looked at changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.runtime.task.ahead import BEFORE_ALL, Ahead
from kstream.testing.cluster import MemoryCluster
from kstream.testing.fetch import MemoryFetch
from kstream.types import Fetch

BAD = -1


def fetch_of(times: Sequence[int]) -> MemoryFetch:
    cluster = MemoryCluster()
    cluster.create_topic("in")
    return MemoryFetch([cluster.append("in", None, b"%d" % time) for time in times])


class Times:
    """Reads the times that lie in values, and counts."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, fetch: Fetch) -> list[int]:
        times = [int(value or b"") for value in fetch.values()]
        self.read += fetch.offsets()
        if BAD in times:
            raise ValueError("no time")
        return times


def expected(times: Sequence[int], bound: int, most: int) -> int:
    least = [BEFORE_ALL if time == BAD else time for time in times]
    return next((index for index, time in enumerate(least[:most]) if time >= bound), min(most, len(least)))


@given(
    times=st.lists(st.one_of(st.integers(0, 50), st.just(BAD)), min_size=1, max_size=120),
    looks=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 150), st.integers(1, 30)), max_size=12),
)
def test_it_is_as_if_all_were_looked_at(times: list[int], looks: list[tuple[int, int, int]]) -> None:
    reads = Times()
    ahead = Ahead(reads)
    whole, left = fetch_of(times), times
    for bound, most, size in looks:
        assert ahead.head(whole) == (BEFORE_ALL if left[0] == BAD else left[0])
        assert ahead.before(whole, bound, most) == expected(left, bound, most)
        size = min(size, len(left))
        rest = whole.cut(size, len(whole)) if size < len(left) else None
        ahead.cut(whole, size, rest)
        if rest is None:
            break
        whole, left = rest, left[size:]
    if BAD not in times:
        assert len(reads.read) == len(set(reads.read)), "each once"


@pytest.mark.parametrize("known", [1, 40, 100])
def test_no_more_is_read_than_is_asked_for(known: int) -> None:
    reads = Times()
    ahead = Ahead(reads)
    fetch = fetch_of(list(range(1000)))
    assert ahead.before(fetch, known, 1000) == known
    assert len(reads.read) <= max(16, 4 * known)


@pytest.mark.parametrize("size", [1, 2, 50])
def test_more_may_be_taken_than_was_looked_at(size: int) -> None:
    """No other input has records, so nothing is compared."""
    ahead = Ahead(Times())
    whole = fetch_of(list(range(100)))
    assert ahead.head(whole) == 0
    rest = whole.cut(size, len(whole))
    ahead.cut(whole, size, rest)
    assert ahead.head(rest) == size
    assert ahead.before(rest, size + 3, 10) == 3


def test_another_fetch_is_read_anew() -> None:
    reads = Times()
    ahead = Ahead(reads)
    assert ahead.head(fetch_of([5])) == 5
    assert ahead.head(fetch_of([3])) == 3
    ahead.clear()
    assert ahead.head(fetch_of([4])) == 4
