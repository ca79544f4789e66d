"""The one clock of the system, what tests replace by `kstream.testing.ManualClock`; and dates as numbers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SystemClock:
    """Implements `kstream.types.Clock`."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def since_epoch(at: datetime) -> int:
    """A datetime (naive means UTC) in whole ms since the epoch, exactly: `timestamp()` in seconds, times 1000, is a
    millisecond less for some."""
    past = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    return past.days * 86_400_000 + past.seconds * 1000 + past.microseconds // 1000
