"""What restores may take while other tasks run."""

from __future__ import annotations

import pytest

from kstream.runtime.worker.restraint import BESIDE_SECONDS, MOST_PAUSE, Restraint
from kstream.testing import ManualClock


@pytest.mark.parametrize(("share", "pause"), [(0.5, 0.01), (0.2, 0.04), (1.0, 0.0)])
def test_beside_other_tasks_a_replay_takes_its_share_of_time(share: float, pause: float) -> None:
    restraint = Restraint(ManualClock(), share, None)
    restraint.spent(0.01, 1_000_000, beside=True)
    assert restraint.seconds_left() == pytest.approx(pause)


def test_alone_it_takes_all_of_it() -> None:
    restraint = Restraint(ManualClock(), 0.1, None)
    restraint.spent(0.01, 1_000_000, beside=False)
    assert restraint.seconds_left() == 0.0


def test_a_rate_holds_at_any_time() -> None:
    clock = ManualClock()
    restraint = Restraint(clock, 1.0, 1_000_000)
    restraint.spent(0.01, 100_000, beside=False)
    assert restraint.seconds_left() == pytest.approx(0.09)
    clock.advance(0.1)
    assert restraint.seconds_left() == 0.0


def test_a_rate_holds_however_large_a_step_was() -> None:
    """Steps of a hundred seconds' bytes had to be paid for with one."""
    clock = ManualClock()
    restraint = Restraint(clock, 0.5, 1_000_000)
    restraint.spent(0.1, 100_000_000, beside=True)
    assert restraint.seconds_left() == pytest.approx(99.9)


def test_a_step_takes_what_a_second_of_the_rate_allows() -> None:
    free, bound = (Restraint(ManualClock(), 0.5, rate) for rate in (None, 1_000_000))
    assert free.at_most(10_000, 0, 0) == free.at_most(10_000, 10, 10_000_000) == 10_000
    assert bound.at_most(10_000, 0, 0) == 100  # nothing is known
    assert bound.at_most(10_000, 10, 0) == 100  # all were tombstones
    assert bound.at_most(10_000, 50, 500_000) == 100
    assert bound.at_most(10_000, 50, 50) == 10_000
    assert bound.at_most(10_000, 1, 20_000_000) == 1


def test_one_slow_step_is_no_reason_to_stand_still_for_long() -> None:
    restraint = Restraint(ManualClock(), 0.01, None)
    restraint.spent(100.0, 0, beside=True)
    assert restraint.seconds_left() == MOST_PAUSE


def test_tasks_run_beside_it_where_records_were_processed_lately() -> None:
    """With 200 records a second most turns of the loop have none: these took long steps, which the next record met."""
    clock = ManualClock()
    restraint = Restraint(clock, 0.5, None)
    assert not restraint.beside(0)
    assert restraint.beside(7)
    clock.advance(BESIDE_SECONDS / 2)
    assert restraint.beside(7)
    clock.advance(BESIDE_SECONDS / 2)
    assert not restraint.beside(7)
    assert restraint.beside(9)


def test_a_short_step_does_not_end_the_pause_of_a_long_one() -> None:
    restraint = Restraint(ManualClock(), 0.5, None)
    restraint.spent(0.3, 0, beside=True)
    restraint.spent(0.0, 0, beside=True)
    assert restraint.seconds_left() == pytest.approx(0.3)
