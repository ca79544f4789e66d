"""A process that stood still longer than its session knows so for a while."""

from __future__ import annotations

from kstream.runtime.kafka.pulse import Pulse
from kstream.testing import ManualClock


def test_only_a_pause_longer_than_the_session_counts_and_it_is_forgotten() -> None:
    clock = ManualClock()
    pulse = Pulse(10.0, clock.monotonic)
    for seconds in (0.0, 1.0, 9.0):
        clock.advance(seconds)
        pulse.beat()
    assert pulse.stood_still() is None
    clock.advance(31.0)
    assert pulse.stood_still() is None  # it has not gone on yet
    pulse.beat()
    clock.advance(20.0)
    assert pulse.stood_still() == 31.0
    pulse.beat()
    clock.advance(20.0)
    assert pulse.stood_still() == 20.0
    clock.advance(31.0)
    assert pulse.stood_still() is None
