"""The one clock of the system: what tests replace by `kstream.testing.ManualClock`."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `kstream.types.Clock`."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
