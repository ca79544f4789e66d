"""Lines alike: one in ten seconds, with the count of those left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from kstream.observe import logs
from kstream.observe.throttle import INTERVAL, MAX_KINDS, Tally, Throttle
from kstream.testing import ManualClock


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.records.append(record)


class Throttled:
    """A logger of its own behind a throttle whose clock is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = logging.Logger("throttled")
        self.log.addFilter(Throttle(clock=self.clock.monotonic))
        self.kept = Kept()
        self.log.addHandler(self.kept)

    def warning(self, text: str, asks: bool) -> None:
        """Logs it; where it `asks` first, only what would not be held back."""
        (throttle,) = self.log.filters
        assert isinstance(throttle, Throttle)
        if not (asks and throttle.holds(text, logging.WARNING)):
            self.log.warning("%s", text)


@pytest.fixture
def throttled() -> Iterator[Throttled]:
    yield Throttled()


@pytest.mark.parametrize("asks", [False, True])
def test_one_in_ten_seconds_with_the_count_of_the_others(throttled: Throttled, asks: bool) -> None:
    before = logs.counts().get("WARNING", 0)
    for step in (0.0, 1.0, 1.0, 7.9, 0.6, 0.5, 9.5):  # at 0, 1, 2, 9.9, 10.5, 11 and 20.5 s
        throttled.clock.advance(step)
        throttled.warning("broker 1 is down", asks)
    assert logs.counts().get("WARNING", 0) - before == 4
    assert throttled.kept.lines == [
        "broker 1 is down",
        "broker 1 is down (3 more in the last 10 s)",
        "broker 1 is down (1 more in the last 10 s)",
    ]
    assert [getattr(record, "suppressed", 0) for record in throttled.kept.records] == [0, 3, 1]


def test_numbers_do_not_make_a_line_another(throttled: Throttled) -> None:
    throttled.log.error("Connect to ipv4#127.0.0.1:9092 failed (after 0ms)")
    throttled.log.error("Connect to ipv4#127.0.0.1:9093 failed (after 12ms)")
    throttled.log.error("%s is %d%% full", "disk", 90)
    throttled.log.error("something else")
    assert throttled.kept.lines == [
        "Connect to ipv4#127.0.0.1:9092 failed (after 0ms)",
        "disk is 90% full",
        "something else",
    ]
    throttled.clock.advance(11)
    throttled.log.error("%s is %d%% full", "disk", 91)
    throttled.log.error("%s is %d%% full", "disk", 92)
    throttled.clock.advance(11)
    throttled.log.error("%s is %d%% full", "disk", 93)
    assert throttled.kept.lines[-2:] == ["disk is 91% full", "disk is 93% full (1 more in the last 11 s)"]


def test_those_left_out_are_counted_all_the_same(throttled: Throttled) -> None:
    before = logs.counts().get("WARNING", 0)
    for _ in range(5):
        throttled.log.warning("again")
        throttled.log.info("and again")
    assert logs.counts().get("WARNING", 0) - before == 4  # the first is counted by the handler that logs it


def test_texts_without_end_take_no_memory_without_end(throttled: Throttled) -> None:
    (throttle,) = throttled.log.filters
    assert isinstance(throttle, Throttle)
    for number in range(3 * MAX_KINDS):
        throttled.log.warning("x" * number)
    assert len(throttle._kinds) <= MAX_KINDS
    assert len(throttled.kept.lines) == 3 * MAX_KINDS


def test_a_tally_is_due_at_once_and_then_now_and_then_with_all_there_were_since() -> None:
    clock = ManualClock()
    tally = Tally(clock=clock.monotonic)
    assert tally.due() == 0
    assert [tally.due(3), tally.due(4), tally.due()] == [3, 0, 0]
    clock.advance(INTERVAL)
    assert [tally.due(), tally.due()] == [4, 0]
    assert [tally.due(5), tally.rest(), tally.rest()] == [0, 5, 0]
    clock.advance(INTERVAL)
    assert tally.due() == 0
