"""How many records of a task failed within a minute, for `max_error_rate`."""

from __future__ import annotations

from kstream.runtime.task.deciding import SECONDS, ErrorRate


def test_records_of_two_topics_at_one_offset_are_two() -> None:
    rate = ErrorRate()
    assert rate.failed(1, ("a", 0, 5), 0.0) == 1
    assert rate.failed(1, ("b", 0, 5), 0.0) == 2


def test_one_that_is_tried_again_after_others_counts_once() -> None:
    rate = ErrorRate()
    for again in range(3):
        for offset in (5, 7, 9):
            found = rate.failed(1, ("a", 0, offset), float(again))
    assert found == 3


def test_each_step_has_its_own_and_what_is_a_minute_old_is_forgotten() -> None:
    rate = ErrorRate()
    rate.failed(1, ("a", 0, 5), 0.0)
    assert rate.failed(2, ("a", 0, 6), 1.0) == 1
    assert rate.failed(1, ("a", 0, 7), SECONDS) == 2
    assert rate.failed(1, ("a", 0, 8), SECONDS + 0.5) == 2
