"""How often librdkafka's main thread is woken, and what a poll waits for."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.runtime.kafka import waking
from kstream.runtime.kafka.waking import JOINING_SECONDS, WAKE_SECONDS, Waking


class Clock:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Client:
    """Waits on the clock for as long as it may; the group gives it something in the call of this number."""

    def __init__(self, clock: Clock, given: int = 0) -> None:
        self._clock, self._given = clock, given
        self.waits: list[float] = []
        self.woken: list[float] = []
        self.message: Any = None
        self.waking = Waking(self)  # type: ignore[arg-type]

    def memberid(self) -> str:
        self.woken.append(self._clock.now)
        return "member"

    def poll(self, timeout: float) -> Any:
        self.waits.append(timeout)
        self._clock.now += timeout
        if len(self.waits) == self._given:
            self.waking.joining = False
        return self.message


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(waking, "time", made)
    return made


def test_while_it_joins_it_is_woken_at_each_step(clock: Clock) -> None:
    client = Client(clock)
    assert client.waking.poll(0.1) is None
    assert clock.now == pytest.approx(100.1) and max(client.waits) <= JOINING_SECONDS
    gaps = [later - earlier for earlier, later in zip(client.woken, client.woken[1:], strict=False)]
    assert len(client.woken) >= 0.1 / JOINING_SECONDS and max(gaps) <= 1.5 * JOINING_SECONDS


def test_the_poll_that_brings_partitions_ends_with_it(clock: Clock) -> None:
    client = Client(clock, given=3)
    client.waking.poll(10.0)
    assert clock.now == pytest.approx(100 + 3 * JOINING_SECONDS)


def test_a_member_waits_in_one_piece_and_is_woken_now_and_then(clock: Clock) -> None:
    client = Client(clock)
    client.waking.joining = False
    for _ in range(10):
        client.waking.poll(0.05)
    assert client.waits == [0.05] * 10
    assert len(client.woken) == pytest.approx(0.5 / WAKE_SECONDS, abs=1)


@pytest.mark.parametrize("joining", [True, False])
def test_a_record_is_handed_on_at_once_and_no_time_is_no_wait(clock: Clock, joining: bool) -> None:
    client = Client(clock)
    client.waking.joining = joining
    assert client.waking.poll(0.0) is None and client.waits == [0.0]
    client.message = object()
    assert client.waking.poll(5.0) is client.message and len(client.waits) == 2
