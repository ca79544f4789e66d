"""Whether this process stood still lately: it was stopped and went on, its machine slept, its container was frozen.

The brokers took it for dead meanwhile. What they refuse it afterwards is on account of its own past, not of another
process with its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MEMORY: Final = 3
"""Sessions for which it is remembered: joining again takes one at most, and one is still under way."""


class Pulse:
    """Beats at each turn of a loop.

    Args:
        session: seconds; in a longer pause between two beats the group has removed this process. A turn may take
            that long by itself, while librdkafka's thread sends heartbeats: it counts all the same.
        clock: monotonic.
    """

    def __init__(self, session: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._last: float | None = None
        self._still: tuple[float, float] | None = None  # when it went on, and the seconds before that

    def beat(self) -> None:
        now = self._clock()
        if self._last is not None and now - self._last > self._session:
            self._still = (now, now - self._last)
        self._last = now

    def stood_still(self) -> float | None:
        """For how many seconds, if it did and that matters still."""
        if self._still is None or self._clock() - self._still[0] > MEMORY * self._session:
            return None
        return self._still[1]
