"""How long what failed is left alone before it is tried again, and when it is given up: workers, tasks.

One arithmetic for every restart strategy (`kstream/specs/restart.py` says which numbers each of them has).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from math import inf


class Pauses:
    """The pauses before the restarts of one thing, as in Flink's restart strategies.

    The n-th pause is max(initial, min(initial x multiplier^n +- jitter, longest)); `n` counts the failures before it,
    and begins anew after a quiet time. Failures while a restart is pending are one. Times are monotonic seconds.

    Args:
        reset_after: seconds since the last restart was due, after which a failure counts as the first.
        jitter: the part of a pause by which it is longer or shorter at random.
        attempts: restarts without a quiet time between them; one failure more is one too many. None is no limit.
        most: failures that may fall within `interval` seconds; one more is one too many. None is no limit.
        random: a number from 0 to 1.

    Attributes:
        pause: the last one; 0 before the first.
        due: when the last restart was, or is, due.
        exhausted: it has failed too often: it is not to be tried again.
    """

    __slots__ = (
        "_attempts", "_failures", "_grown", "_initial", "_interval", "_jitter", "_latest", "_longest", "_multiplier",
        "_random", "_reset_after", "due", "exhausted", "pause",
    )  # fmt: skip

    def __init__(
        self,
        initial: float,
        multiplier: float = 1.0,
        longest: float = inf,
        reset_after: float = inf,
        *,
        jitter: float = 0.0,
        attempts: int | None = None,
        most: int | None = None,
        interval: float = 0.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._initial, self._longest, self._multiplier = initial, longest, multiplier
        self._reset_after, self._jitter, self._random = reset_after, jitter, random
        self._attempts, self._interval = attempts, interval
        self._latest: deque[float] | None = None if most is None else deque(maxlen=most + 1)
        self._grown, self._failures = 0.0, 0
        self.pause, self.due, self.exhausted = 0.0, -inf, False

    def failed(self, now: float) -> float:
        """It failed: when it is to be tried again, unless it is `exhausted`."""
        if now < self.due:
            return self.due
        if now - self.due >= self._reset_after:
            self._failures = 0
        # Not a power: that overflows. Kept apart from the pause, whose jitter does not grow with it.
        self._grown = min(self._grown * self._multiplier, 1e300) if self._failures else self._initial
        self._failures += 1
        jitter = self._grown * self._jitter * (2.0 * self._random() - 1.0) if self._jitter else 0.0
        self.pause = max(self._initial, min(self._grown + jitter, self._longest))
        self.due = now + self.pause
        self.exhausted = self._attempts is not None and self._failures > self._attempts
        if self._latest is not None:
            self._latest.append(now)
            full = len(self._latest) == self._latest.maxlen
            self.exhausted = self.exhausted or (full and now - self._latest[0] <= self._interval)
        return self.due
