"""The instances that were heard of, from what they said of themselves (announce.py)."""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

import msgspec

from kstream.observe.status import InstanceStatus
from kstream.specs.stored import ANNOUNCEMENTS

SILENT_AFTER: Final = 3
"""Announcements that may be missing before an instance is shown as silent."""
FORGOTTEN_AFTER: Final = 600.0
"""Seconds without a word after which an instance is no longer shown."""
MOST_INSTANCES: Final = 500
"""Instances that are kept at a time; of more, those heard of longest ago are dropped."""
MOST_HELD: Final = 64 << 20
"""Bytes of announcements that are kept, as they were written."""


USUAL_INTERVAL: Final = 5.0
"""Seconds between two announcements, where an instance says nothing sensible."""


class Announcement(InstanceStatus):
    """What is written to the topic. `interval` is that of the sender, in seconds: by it its silence is judged. `v` is
    the number of this form."""

    interval: float = USUAL_INTERVAL
    v: int = ANNOUNCEMENTS.number


def is_unread(one: InstanceStatus) -> bool:
    """Whether a later version announced it, in a form that this one does not know: nothing but its name is."""
    return isinstance(one, Announcement) and one.v > ANNOUNCEMENTS.number


class Heard(NamedTuple):
    """The latest word of an instance, and when it was said by the hearer's monotonic clock.

    `skew` is the broker's clock, when it took the announcement, minus the instance's, when it made it; `size` is its
    bytes.
    """

    said: Announcement
    at: float
    skew: float = 0.0
    size: int = 0


class Directory:
    """The instances that were heard of, by name. Thread-safe.

    Whoever may write to the topic may invent instances: how many are kept, and how much of them, has a limit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}  # in the order in which they were heard of
        self._held = 0

    def hear(self, name: str, heard: Heard | None) -> None:
        """The latest word of `name`; None: it left."""
        with self._lock:
            self._forget(name)
            if heard is not None:
                self._heard[name] = heard
                self._held += heard.size
            while len(self._heard) > MOST_INSTANCES or self._held > MOST_HELD:
                self._forget(next(iter(self._heard)))

    def _forget(self, name: str) -> None:
        heard = self._heard.pop(name, None)
        self._held -= 0 if heard is None else heard.size

    def instances(self, monotonic: float, wall: float) -> list[InstanceStatus]:
        """By name, as of now. `at` of each is by our own wall clock, whatever the instance's says."""
        with self._lock:
            for name, one in list(self._heard.items()):
                if monotonic - one.at > max(FORGOTTEN_AFTER, (SILENT_AFTER + 1) * one.said.interval):
                    self._forget(name)
            heard = sorted(self._heard.items())
        return [_aged(one.said, max(monotonic - one.at, 0.0), wall) for _, one in heard]

    def clocks(self) -> dict[str, tuple[str, float]]:
        """The host of each instance, and by how many seconds the broker's clock is ahead of its own."""
        with self._lock:
            return {name: (one.said.host, one.skew) for name, one in self._heard.items()}


def _aged(said: Announcement, age: float, wall: float) -> InstanceStatus:
    if age <= SILENT_AFTER * said.interval:
        return msgspec.structs.replace(said, at=wall - age)
    reasons = [f"not heard of for {age:.0f} s"]
    return msgspec.structs.replace(said, at=wall - age, state="silent", ready=False, reasons=reasons)
