"""Heavy hitters: what Space-Saving promises, held against exact counts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kstream.observe.hitters import SpaceSaving

samples = st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=40)


@given(samples)
def test_every_heavy_key_is_told_and_no_count_is_off_by_more_than_its_part(batches: list[list[int]]) -> None:
    counters = 10
    hitters, exact = SpaceSaving(counters, fades=10**9), Counter[bytes]()
    for batch in batches:
        keys = [b"%d" % n for n in batch]
        hitters.add(keys)
        exact.update(keys)
    assert hitters.seen == exact.total()
    told = dict(hitters.top(10**6))
    for key, count in exact.items():
        if count > exact.total() / counters:
            assert key in told
    for key, share in told.items():
        assert exact[key] - exact.total() / counters <= share * exact.total() <= exact[key]


def test_few_keys_are_counted_exactly() -> None:
    hitters = SpaceSaving(4)
    for _ in range(10):
        hitters.add([b"a", b"b", b"a", b"c"])
    assert hitters.top(2) == [(b"a", 0.5), (b"b", 0.25)]


def test_memory_is_bounded_and_what_was_long_ago_fades() -> None:
    hitters = SpaceSaving(10, fades=1000)
    hitters.add([b"old"] * 900)
    for n in range(2000):
        hitters.add([b"new", b"new", b"%d" % n])
    assert len(hitters._counts) <= 20 and hitters.seen < 1000
    assert hitters.top(1)[0][0] == b"new" and hitters.top(1)[0][1] > 0.5
    assert b"old" not in dict(hitters.top(3))
