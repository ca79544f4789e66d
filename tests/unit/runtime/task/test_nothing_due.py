"""What is due in an idle task, asked again and again without asking its stores each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kstream.runtime.task.nothing_due import NothingDue
from kstream.specs.ttl import FOREVER

DAY = 86_400_000


class Stores:
    """What is due, and how often somebody asked."""

    def __init__(self, due: list[int]) -> None:
        self.due, self.asked = due, 0

    def closes_by(self, time: int) -> bool:
        self.asked += 1
        return any(each <= time for each in self.due)


@given(
    start=st.lists(st.integers(0, DAY), max_size=3),
    steps=st.lists(
        st.tuples(
            st.one_of(st.just(500), st.integers(1, DAY)), st.none() | st.lists(st.integers(0, 2 * DAY), max_size=3)
        ),
        max_size=60,
    ),
)
def test_it_says_what_the_stores_would(start: list[int], steps: list[tuple[int, list[int] | None]]) -> None:
    """Time goes on, and now and then something is processed."""
    stores, now = Stores(start), 0
    nothing = NothingDue(stores.closes_by)
    for passed, changed in steps:
        now += passed
        if changed is not None:
            stores.due = changed
            nothing.forget()
        assert nothing.closes_by(now) == any(each <= now for each in stores.due)
        assert nothing.waits() == bool(stores.due)


def asked(due: list[int], seconds: float) -> int:
    """How often the stores are asked by a task that looks twice a second."""
    stores = Stores(due)
    nothing = NothingDue(stores.closes_by)
    for look in range(round(2 * seconds)):
        assert not nothing.closes_by(500 * look)
        nothing.waits()
    return stores.asked


def test_stores_in_which_nothing_waits_are_asked_once() -> None:
    assert asked([], DAY / 1000) == 2
    assert asked([FOREVER], 3600.0) < 20


def test_what_is_due_in_a_while_is_not_asked_for_at_each_look() -> None:
    assert asked([60_000], 60.0) < 40
    assert asked([3_600_000], 3600.0) < 120  # of 7200 looks, at each of which two questions
