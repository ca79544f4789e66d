"""Follows what a query has put out, and how far it has come, for the live display."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, TopicPartition

import kstream
from kstream.codecs import decode_keys, decode_value
from kstream.config import Settings
from kstream.errors import AbortRequired
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.types import TopicPartition as At

LATEST = 200
QUIET = 2.0  # seconds without a result after which none is expected any more, once all input is through
LOOK = 0.2  # seconds between two looks at how far it has come


class Watch(threading.Thread):
    """A thread that reads the results, committed records only, from their beginning.

    Attributes:
        through: records of the input that the query has committed.
        results: how many results there are; `latest` has the last few, keys and values, the newest last.
        failure: why it ended early.
    """

    def __init__(
        self, settings: Settings, client: Mapping[str, str], group: str, results: kstream.Topic[Any, Any],
        inputs: Sequence[str], partitions: Mapping[str, int],
    ) -> None:  # fmt: skip
        super().__init__(name="watch", daemon=True)
        self.through = self.results = 0
        self.latest: deque[tuple[Any, Any]] = deque(maxlen=LATEST)
        self.failure: BaseException | None = None
        self._topic, self._group = results, group
        self._inputs = [At(topic, number) for topic in inputs for number in range(partitions[topic])]
        self._heard = time.monotonic()
        self._halt = threading.Event()
        self._admin = KafkaClients(settings.bootstrap_servers, options_from(settings, "nexmark-watch")).admin()
        self._consumer = Consumer(
            {
                **client,
                "group.id": "nexmark-watch",  # never joined
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.queue.backoff.ms": 10,
            }
        )
        self._consumer.assign([TopicPartition(results.name, number, 0) for number in range(partitions[results.name])])

    @property
    def quiet(self) -> bool:
        """Whether no result has come for a while."""
        return time.monotonic() - self._heard > QUIET

    def run(self) -> None:
        looked = 0.0
        try:
            while not self._halt.is_set():
                self._read()
                if time.monotonic() - looked > LOOK:
                    looked = time.monotonic()
                    self._look()
        except BaseException as error:
            self.failure = error
        finally:
            self._consumer.close()
            self._admin.close()

    def _read(self) -> None:
        messages = [one for one in self._consumer.consume(5000, 0.1) if one.error() is None]
        if messages:
            self.results += len(messages)
            self._heard = time.monotonic()
        for message in messages[-LATEST:]:
            raw: Any = message.key()
            self.latest.append(
                (decode_keys(self._topic.key.codec, [raw])[0], decode_value(self._topic.value.codec, message.value()))
            )

    def _look(self) -> None:
        with suppress(AbortRequired):  # a transaction is under way: at the next look
            found = self._admin.committed(self._group, self._inputs).result(30)
            self.through = sum(at[0] for at in found.values() if at is not None)

    def stop(self) -> None:
        self._halt.set()
        if self.ident is not None:
            self.join(10)
