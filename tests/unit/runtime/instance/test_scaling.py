"""When a group gets a worker more or one fewer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.config import Settings
from kstream.runtime.instance.scaling import Change, Judge, Load, useful_workers

SETTINGS = Settings(autoscale_window=10, autoscale_cooldown=60)


class Minutes:
    """A judge that is asked every second."""

    def __init__(self, least: int = 1, most: int = 4, settings: Settings = SETTINGS) -> None:
        self.judge, self.now, self.workers = Judge(least, most, settings), 100.0, least

    def run(self, seconds: int, share: float | None, room: int = 8) -> list[tuple[int, Change]]:
        changes = []
        for second in range(seconds):
            self.now += 1
            change = self.judge.look(self.now, Load(self.workers, share, room))
            if change is not None:
                self.workers += change.step
                changes.append((second, change))
        return changes


def test_a_load_that_stays_high_brings_one_more_then_the_cooldown_is_kept() -> None:
    group = Minutes()
    ((second, change),) = group.run(30, 0.95)
    assert 8 <= second <= 11 and change == Change(1, "95% busy or backpressured for 10 s, more than 80%")
    ((second, _),) = group.run(50, 0.95)
    assert second + 30 - 9 >= 60 and group.workers == 3


def test_a_load_that_stays_low_takes_one_away_down_to_the_least() -> None:
    group = Minutes(1, 4)
    group.workers = 3
    ((_, change),) = group.run(30, 0.05)
    assert change == Change(-1, "5% busy or backpressured for 10 s, less than 20%")
    group.run(60, 0.05)
    assert group.run(600, 0.05) == [] and group.workers == 1


def test_what_lies_between_changes_nothing() -> None:
    group = Minutes()
    assert group.run(300, 0.8) == [] and group.run(300, 0.2) == [] and group.judge.limit is None


def test_a_short_peak_changes_nothing() -> None:
    group = Minutes()
    for _ in range(10):
        assert group.run(4, 1.0) == [] and group.run(8, 0.3) == []


def test_a_start_a_restore_or_a_rebalance_opens_a_new_window() -> None:
    group = Minutes()
    for _ in range(10):
        assert group.run(8, 1.0) == [] and group.run(1, None) == []


def test_never_beyond_the_partitions_nor_the_most_and_it_says_why() -> None:
    group = Minutes(2, 4)
    assert group.run(300, 1.0, room=2) == []
    assert (
        group.judge.limit == "100% busy or backpressured for 10 s, more than 80%; there are no partitions for one more"
    )
    group.workers = 4
    assert group.run(300, 1.0) == []
    assert group.judge.limit == "100% busy or backpressured for 10 s, more than 80%; 4 is the most allowed"
    group.run(20, 0.5)
    assert group.judge.limit is None


def test_a_place_below_the_least_is_filled_at_once() -> None:
    group = Minutes(2, 4)
    group.workers = 1
    assert [change.step for _, change in group.run(3, None)] == [1]


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.integers(1, 6)), max_size=400),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_the_bounds_hold_and_changes_keep_their_distance(
    moments: list[tuple[float | None, int]], least: int, more: int
) -> None:
    group = Minutes(least, least + more)
    last = -1000.0
    for share, room in moments:
        before = group.workers
        for _, change in group.run(1, share, room):
            assert group.now - last >= 60
            last = group.now
            assert change.step < 0 or before < room
        assert least <= group.workers <= least + more


def test_useful_workers_are_the_partitions_of_the_largest_topic_of_the_group() -> None:
    app = kstream.App("shop")
    small, large = app.topic("small", key=str, value=str), app.topic("large", key=str, value=str)
    app.agent(small)(len)
    app.agent(large)(str.upper)
    app.agent(large, group="cpu", name="other")(str.lower)
    topology, partitions = app.topology(), {"small": 2, "large": 6}
    assert useful_workers(topology, partitions, "default") == 6  # `range` gives small's two to the first two members
    assert useful_workers(topology, partitions, "cpu") == 6
