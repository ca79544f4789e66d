"""The pauses before restarts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.backoff import Pauses
from kstream.specs.restart import RestartStrategy


def pauses_of(pauses: Pauses, failures: int, now: float = 0.0) -> list[float]:
    """Of so many failures, each right after the restart that was due."""
    found = []
    for _ in range(failures):
        now = pauses.failed(now)
        found.append(pauses.pause)
    return found


def test_pauses_grow_up_to_the_longest() -> None:
    assert pauses_of(Pauses(1.0, 2.0, 10.0, 600.0), 6) == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert pauses_of(Pauses(1.0, 1.0, 10.0, 600.0), 3) == [1.0, 1.0, 1.0]


def test_no_pause_is_shorter_than_the_first() -> None:
    assert pauses_of(Pauses(5.0, 2.0, 3.0, 600.0), 3) == [5.0, 5.0, 5.0]
    assert pauses_of(Pauses(5.0, 0.5, 60.0, 600.0), 3) == [5.0, 5.0, 5.0]


def test_a_quiet_time_since_the_restart_begins_anew() -> None:
    pauses = Pauses(1.0, 2.0, 60.0, 100.0)
    assert pauses_of(pauses, 3) == [1.0, 2.0, 4.0] and pauses.due == 7.0
    assert pauses.failed(106.9) == 106.9 + 8.0, "99.9 s after the restart: it failed again"
    assert pauses.failed(114.9 + 100.0) == 214.9 + 1.0, "a hundred seconds were quiet"


def test_years_of_failures_do_not_overflow() -> None:
    assert pauses_of(Pauses(1.0, 2.0, 60.0, 1e9), 5000)[-1] == 60.0


def test_failures_while_a_restart_is_pending_are_one() -> None:
    pauses = Pauses(10.0, 2.0, 60.0, 600.0, attempts=1)
    assert [pauses.failed(now) for now in (0.0, 1.0, 9.9)] == [10.0, 10.0, 10.0]
    assert not pauses.exhausted
    assert pauses.failed(10.0) == 30.0 and pauses.exhausted


def test_a_quiet_time_gives_the_attempts_back() -> None:
    pauses = Pauses(1.0, 2.0, 60.0, 100.0, attempts=1)
    pauses.failed(0.0)
    assert pauses.failed(101.0) == 102.0 and not pauses.exhausted
    pauses.failed(102.0)
    assert pauses.exhausted


# ---- against a model written from Flink's definition

SMALL = st.floats(0.0, 100.0)


class Model:
    """Flink's three strategies, written down from their documentation, with all failures remembered.

    Exponential: max(initial, min(initial x multiplier^n +- jitter, max)), n the failures since the last reset.
    """

    def __init__(self) -> None:
        self.due = -math.inf
        self.counted = 0
        self.times: list[float] = []

    def exponential(self, now: float, one: kstream.ExponentialDelay, chance: float) -> float:
        if now - self.due >= one.reset_after:
            self.counted = 0
        grown = one.initial * one.multiplier**self.counted
        self.counted += 1
        return max(one.initial, min(grown + (2 * chance - 1) * one.jitter * grown, one.max))

    def too_often(self, now: float, one: kstream.FailureRate) -> bool:
        self.times.append(now)
        return sum(now - time <= one.interval for time in self.times) > one.max_failures


EXPONENTIAL = st.builds(
    lambda initial, more, multiplier, reset_after, jitter, attempts: kstream.ExponentialDelay(
        initial, initial + more, multiplier, reset_after, jitter, attempts
    ),
    SMALL, SMALL, st.floats(1.0, 4.0), SMALL, st.floats(0.0, 1.0), st.none() | st.integers(0, 5),
)  # fmt: skip
FIXED = st.builds(kstream.FixedDelay, st.none() | st.integers(0, 5), SMALL)
RATE = st.builds(kstream.FailureRate, st.integers(0, 5), SMALL, SMALL)


@given(EXPONENTIAL | FIXED | RATE | st.just(kstream.NoRestart()), st.lists(SMALL, max_size=20), st.floats(0.0, 1.0))
def test_each_strategy_does_what_flinks_definition_says(
    strategy: RestartStrategy, gaps: list[float], chance: float
) -> None:
    """Until it is exhausted. Some failures come while a restart is pending."""
    model, now = Model(), 0.0
    pauses = strategy.pauses(lambda: chance)
    for gap in gaps:
        now += gap
        pending, before = now < model.due, (pauses.due, pauses.pause)
        assert pauses.failed(now) == pauses.due
        if pending:
            assert (pauses.due, pauses.pause) == before and not pauses.exhausted
            continue
        attempts: int | None = None
        if isinstance(strategy, kstream.ExponentialDelay):
            pause, attempts = model.exponential(now, strategy, chance), strategy.attempts
        else:
            model.counted += 1
            pause = getattr(strategy, "delay", 0.0)
            attempts = strategy.attempts if isinstance(strategy, kstream.FixedDelay) else None
        spent = attempts is not None and model.counted > attempts
        if isinstance(strategy, kstream.FailureRate):
            spent = model.too_often(now, strategy)
        assert pauses.pause == pytest.approx(pause)
        assert pauses.exhausted == (spent or isinstance(strategy, kstream.NoRestart))
        if pauses.exhausted:
            return
        model.due = pauses.due
