"""What Kafka is known to refuse, from what it refused a short while ago.

A broker refuses a batch, and with it the transaction: the record at fault is found by replay, which takes some aborts
(runtime/task/failures.py). Where an output is like one that was refused, its record fails before anything of it goes
out, and costs no more than one that fails in user code. Only what is certain is refused so: no key for a topic that
takes none without, a time at least as far out of bounds, a record that is larger than the client takes.

Whether a broker takes a record as large as one that it refused is not certain: it counts compressed bytes. Such a
record is suspected, and comes to Kafka alone: a refusal costs one abort then, and no search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from kstream.errors import RecordRefused
from kstream.types import Clock

SECONDS: Final = 60.0
"""After which Kafka is asked again: a topic's settings may have been changed."""


AROUND: Final = 36
"""Bytes that librdkafka adds to key, value and headers of a record before it compares them with `message.max.bytes`."""


class Suspected(RecordRefused):
    """It is as large as one that a broker refused a short while ago. Internal: never reaches a user."""


class _Known:
    """Of one topic. `until` is monotonic, the bounds are in ms from the wall clock; from `large` bytes on a broker may
    refuse a record; None: nothing is known."""

    __slots__ = ("ahead", "behind", "keyless", "large", "too_large", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.keyless = self.too_large = False
        self.large: int | None = None
        self.ahead: int | None = None
        self.behind: int | None = None


class Refusals:
    """Of one worker: what one task has learned, all know.

    Args:
        largest: bytes of a record that the client takes.

    Attributes:
        known: by topic. Empty while nothing is: then nobody asks but about records that are `large`.
        large: bytes of a value from which on a record may be larger than the client takes.
    """

    def __init__(self, clock: Clock, largest: int) -> None:
        self._clock, self._largest, self.large = clock, largest - AROUND, largest // 2
        self.known: dict[str, _Known] = {}

    def learn(self, refused: RecordRefused) -> None:
        """Kafka refused this one: it alone was in the transaction, or the client did not take it."""
        if refused.known:
            return
        found = self.known.get(refused.topic) or _Known(self._clock.monotonic() + SECONDS)
        ahead, behind = refused.timestamp - int(refused.asked * 1000), int(refused.told * 1000) - refused.timestamp
        if refused.code == "INVALID_RECORD" and refused.key is None:
            found.keyless = True
        elif refused.code == "INVALID_TIMESTAMP" and refused.asked and ahead > 0:
            found.ahead = ahead if found.ahead is None else min(ahead, found.ahead)
        elif refused.code == "INVALID_TIMESTAMP" and refused.asked and refused.timestamp and behind > 0:
            found.behind = behind if found.behind is None else min(behind, found.behind)
        elif refused.code == "MSG_SIZE_TOO_LARGE" and refused.size > self._largest:
            found.too_large = True
        elif refused.code == "MSG_SIZE_TOO_LARGE":
            found.large = refused.size if found.large is None else min(refused.size, found.large)
        else:
            return
        self.known[refused.topic] = found

    def taken(self, suspected: Suspected) -> None:
        """Kafka took this one."""
        found = self.known.get(suspected.topic)
        if found is not None and found.large is not None:
            found.large = max(found.large, suspected.size + 1)

    def found(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        timestamps: Sequence[int],
    ) -> list[tuple[int, RecordRefused]]:
        """Those of these records that are refused or `Suspected`, in their order, and why."""
        known = self.known.get(topic)
        if known is not None and self._clock.monotonic() >= known.until:
            del self.known[topic]
            known = None
        if known is None:
            known = _NOTHING
        codes: dict[int, str] = {}
        if known.keyless and None in keys:
            codes = {index: "INVALID_RECORD" for index, key in enumerate(keys) if key is None}
        if known.ahead is not None or known.behind is not None:
            wall = int(self._clock.time() * 1000)
            early = -1 if known.behind is None else wall - known.behind
            late = math.inf if known.ahead is None else wall + known.ahead
            codes |= {index: "INVALID_TIMESTAMP" for index, at in enumerate(timestamps) if at >= late or at <= early}
        large = self._largest + 1 if known.large is None else min(known.large, self._largest + 1)
        for index, (value, key) in enumerate(zip(values, keys, strict=True)):
            if len(value or b"") + len(key or b"") >= large:
                codes.setdefault(index, "MSG_SIZE_TOO_LARGE")
        return [
            (index, self._refused(known, topic, values[index], keys[index], timestamps[index], codes[index]))
            for index in sorted(codes)
        ]

    def _refused(
        self, known: _Known, topic: str, value: bytes | None, key: bytes | None, timestamp: int, code: str
    ) -> RecordRefused:
        size = len(value or b"") + len(key or b"")
        if code == "MSG_SIZE_TOO_LARGE" and size <= self._largest:
            return Suspected(code, topic, -1, key, size, timestamp=timestamp)
        is_known = code != "MSG_SIZE_TOO_LARGE" or known.too_large
        return RecordRefused(code, topic, -1, key, size, timestamp=timestamp, known=is_known)


_NOTHING: Final = _Known(math.inf)
