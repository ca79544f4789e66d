"""The same line over and over: it is logged once in a while, with the count of those that were left out.

`Throttle` holds lines back; `Tally` counts what there would be a line about.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from kstream.observe.recent import RECENT

INTERVAL: Final = 10.0
"""Seconds in which lines that differ in nothing but numbers are logged once."""

MAX_KINDS: Final = 1000
"""Kinds of lines remembered at a time: texts may hold anything."""

_COUNTS = re.compile(r", \d+ identical error\(s\) suppressed|\d+")
"""Numbers, and what librdkafka adds to a line when it has left out some like it."""


class Throttle(logging.Filter):
    """A filter for a logger (`logger.addFilter`): passes a line, then holds back those like it for `interval` seconds.

    Lines are alike when their texts are, numbers apart. The next one that passes says how many there were, in its text
    and as its field `suppressed`. Those held back count in `logs.counts()`. Any thread may log.
    """

    def __init__(self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval, self._clock = interval, clock
        self._kinds: dict[str, tuple[float, int]] = {}  # when one was logged, how many were held back since
        self._lock = threading.Lock()

    def holds(self, text: str, level: int) -> bool:
        """Whether a line of this text would be held back. Then it is counted as one that was: to log it would take four
        times as long, which counts where there may be thousands of them a second."""
        kind, now = _COUNTS.sub("", text), self._clock()
        with self._lock:
            since, held = self._kinds.get(kind, (-math.inf, 0))
            if now - since >= self._interval:
                return False
            self._kinds[kind] = (since, held + 1)
        RECENT.count(level)
        return True

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if self.holds(text, record.levelno):
            return False
        kind, now = _COUNTS.sub("", text), self._clock()
        with self._lock:
            since, held = self._kinds.get(kind, (-math.inf, 0))
            if len(self._kinds) >= MAX_KINDS:
                self._forget(now)
            self._kinds[kind] = (now, 0)
        if held:
            record.msg, record.args = f"{text} ({held} more in the last {now - since:.0f} s)", ()
            record.suppressed = held
        return True

    def _forget(self, now: float) -> None:
        """Kinds that are not held back any more; all of them when there are too many others."""
        self._kinds = {kind: seen for kind, seen in self._kinds.items() if now - seen[0] < self._interval}
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()


class Tally:
    """Counts what happens often: a line about the first, then one in `interval` seconds about all others."""

    def __init__(self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = interval, clock
        self._said_at = -math.inf
        self._unsaid = 0

    def due(self, count: int = 0) -> int:
        """Counts `count` more. Returns how many a line is due about: 0 while it is not time for one."""
        self._unsaid += count
        if not self._unsaid or self._clock() - self._said_at < self._interval:
            return 0
        self._said_at = self._clock()
        return self.rest()

    def rest(self) -> int:
        """How many no line was about yet: for the last line."""
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
