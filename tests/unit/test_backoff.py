"""The pauses before restarts."""

from __future__ import annotations

from kstream.backoff import Pauses


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
