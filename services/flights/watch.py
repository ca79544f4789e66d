"""Follows what the service has committed, for the live display."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, TopicPartition

from services.flights.app import Alert, Carrier, alerts, carriers

TICKER = 12


class Watch(threading.Thread):
    """A thread that reads the carriers and the alerts, committed records only, from their beginning.

    Attributes:
        through: updates of carriers so far, and so flights that are through.
        alerted: alerts so far; `latest_alerts` holds the last few with their aircraft, newest first.
        failure: why it ended early.
    """

    def __init__(self, client: Mapping[str, str], partitions: Mapping[str, int]) -> None:
        super().__init__(name="watch", daemon=True)
        self.through = self.alerted = 0
        self.latest_alerts: deque[tuple[str, Alert]] = deque(maxlen=TICKER)
        self.failure: BaseException | None = None
        self._latest: dict[bytes, bytes] = {}
        self._halt = threading.Event()
        self._consumer = Consumer(
            {
                **client,
                "group.id": "flights-watch",  # never joined
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.queue.backoff.ms": 10,
            }
        )
        topics = (carriers.name, alerts.name)
        self._consumer.assign(
            [TopicPartition(topic, number, 0) for topic in topics for number in range(partitions[topic])]
        )

    def carriers(self) -> dict[str, Carrier]:
        """The latest figures of each carrier."""
        return {key.decode(): msgspec.json.decode(value, type=Carrier) for key, value in dict(self._latest).items()}

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                for message in self._consumer.consume(5000, 0.1):
                    key, value = message.key(), message.value()
                    if message.error() is not None or not isinstance(key, bytes) or value is None:
                        continue  # the audit is the judge
                    if message.topic() == carriers.name:
                        self._latest[key] = value
                        self.through += 1
                    else:
                        self.latest_alerts.appendleft((key.decode(), msgspec.json.decode(value, type=Alert)))
                        self.alerted += 1
        except BaseException as error:
            self.failure = error
        finally:
            self._consumer.close()

    def stop(self) -> None:
        self._halt.set()
        if self.ident is not None:
            self.join(10)
