"""Polls of a member of a group, which keep librdkafka's main thread awake. It takes the steps of joining a group, and
sends the heartbeats, when it is awake: by itself every 0.5 s, whatever the settings say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import confluent_kafka

WAKE_SECONDS: Final = 0.1
"""How often it is woken. A rebalance stops everybody until the last member has heard of it, in the answer to a
heartbeat."""

JOINING_SECONDS: Final = 0.01
"""The same until the group has given this member its partitions. Joining has several steps that no answer wakes it for:
a broker is there, the coordinator's connection is."""


class Waking:
    """Of one client. Waking costs 60 us.

    Attributes:
        joining: the group has given it nothing yet, or has taken it away.
    """

    def __init__(self, client: confluent_kafka.Consumer) -> None:
        self._client, self._woken = client, 0.0
        self.joining = True

    def poll(self, timeout: float) -> confluent_kafka.Message | None:
        """As the client's own; but once the group has given something it waits no longer: no record can come."""
        if not self.joining:
            self._wake(WAKE_SECONDS)
            return self._client.poll(timeout)
        for wait in self._waits(time.monotonic() + timeout):
            if (message := self._client.poll(wait)) is not None:
                return message
        return None

    def _waits(self, until: float) -> Iterator[float]:
        """While it joins, up to this time: how long to wait until it is woken the next time."""
        while self.joining:
            self._wake(JOINING_SECONDS)
            left = until - time.monotonic()
            yield max(0.0, min(JOINING_SECONDS, left))
            if left <= JOINING_SECONDS:
                return

    def _wake(self, seconds: float) -> None:
        now = time.monotonic()
        if now - self._woken >= seconds:
            self._woken = now
            self._client.memberid()
