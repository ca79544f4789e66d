"""The input of the verifier's service, written by seed while the service and its brokers are being killed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException, Producer

from faults.verified_service import OUT_OF_ORDER_MS
from support.kafka import SECONDS
from support.verification import Chunk, Fate

KEYS = [f"k{number}" for number in range(50)]
GROUPS = 9
LONG = 240.0
"""Seconds that anything may take, on a machine that does other things too."""


class Feeder(threading.Thread):
    """Writes readings and limits until it is told to stop: plainly, in transactions, in transactions that are aborted,
    and in one that is left open. What is written follows from the seed, unless a transaction fails; how much of it
    there is does not."""

    def __init__(self, servers: str, app: str, seed: int, rate: int, abandons: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self.chunks: list[Chunk] = []
        self.fed = 0
        self.now = round(time.time() * 1000)
        """The event time of the latest reading, in ms, before it is moved back at random."""
        self.error: BaseException | None = None
        self._servers, self._app, self._rate, self._abandons = servers, app, rate, abandons
        self._draw = random.Random(seed)
        self._limits = 0
        self._ending = threading.Event()
        self._plain = Producer(self._config() | {"enable.idempotence": True, "message.timeout.ms": 300_000})
        self._transactional = self._begin()

    def _config(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._servers, "partitioner": "murmur2_random", "linger.ms": 5, "log_level": 0}

    def _begin(self, name: str = "", timeout: float = 60.0) -> Producer:
        ms = round(timeout * 1000)
        given = {"transactional.id": f"{self._app}-feeder{name}", "transaction.timeout.ms": ms}
        made = Producer(self._config() | given | {"message.timeout.ms": ms, "socket.timeout.ms": min(ms, 10_000)})
        _patiently(lambda: made.init_transactions(SECONDS))
        return made

    # ---- a thread

    def run(self) -> None:
        began = time.monotonic()
        try:
            while not self._ending.is_set():
                self._chunk()
                self._ending.wait(max(0.0, began + self.fed / self._rate - time.monotonic()))
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        """Returns when what it was at is done. Raises what ended it."""
        self._ending.set()
        self.join()
        if self.error is not None:
            raise self.error

    def _chunk(self) -> None:
        how = self._draw.choices(["plain", "commit", "abort"], [55, 30, 15])[0]
        if self._abandons and self.fed > 2000:
            self._abandons, how = self._abandons - 1, "abandon"
        numbers = range(self.fed, self.fed + self._draw.randrange(20, 120))
        self.fed = numbers.stop
        if how == "plain":
            self._write(self._plain, numbers)
            fate: Fate = "committed"
        elif how == "abandon":
            gone = self._begin("-gone", timeout=8.0)
            gone.begin_transaction()
            with suppress(KafkaException):
                self._write(gone, numbers)
            fate = "aborted"  # by the brokers, in 8 s; nobody reads beyond it until then
        else:
            fate = self._transact(numbers, how == "commit")
        self.chunks.append(Chunk(numbers, fate))

    def _transact(self, numbers: range, commit: bool) -> Fate:
        """A transaction, held open for a while. Its producer is made anew where it cannot go on."""
        try:
            self._transactional.begin_transaction()
            self._write(self._transactional, numbers)
            self._ending.wait(self._draw.choice([0.0, 0.0, 0.3, 1.0]))
            end = self._transactional.commit_transaction if commit else self._transactional.abort_transaction
            _patiently(lambda: end(SECONDS))
        except (KafkaException, BufferError):
            self._transactional = self._begin()  # settles what was open, one way or the other
            return "unknown" if commit else "aborted"
        return "committed" if commit else "aborted"

    # ---- records

    def _write(self, to: Producer, numbers: range) -> None:
        """Returns when the brokers have all of it, so that chunks come in the order of their times."""
        failed: list[object] = []

        def told(error: object, _: object) -> None:
            if error is not None:
                failed.append(error)

        for number in numbers:
            self.now += round(1000 / self._rate)
            at = self.now - self._draw.randrange(OUT_OF_ORDER_MS // 2)
            reading = {
                "number": number, "group": f"g{self._draw.randrange(GROUPS)}", "amount": self._draw.randrange(1, 1000)
            }  # fmt: skip
            self._send(to, "readings", self._draw.choice(KEYS), reading, at, told)
            if self._draw.random() < 0.05:
                self._limits += 1
                self._send(to, "limits", self._draw.choice(KEYS), self._limits, at, told)
            to.poll(0)
        left = to.flush(LONG)
        if left or failed:
            raise KafkaException(failed[0] if failed else f"{left} records were not taken")

    def _send(self, to: Producer, topic: str, key: str, value: object, at: int, told: Callable[..., None]) -> None:
        to.produce(f"{self._app}.{topic}", json.dumps(value).encode(), key.encode(), timestamp=at, on_delivery=told)

    def give_up(self) -> None:
        self._ending.set()

    def last(self, topic: str, at: int) -> int:
        """After `finish`: one record more for each key, with this time. Returns the latest limit before."""
        before = self._limits
        for key in KEYS:
            if topic == "limits":
                self._limits += 1
                value: object = self._limits
            else:
                value = {"number": self.fed, "group": "last", "amount": 1}
                self.chunks.append(Chunk(range(self.fed, self.fed + 1), "committed"))
                self.fed += 1
            self._send(self._plain, topic, key, value, at, lambda *_: None)
        assert self._plain.flush(LONG) == 0
        return before


def _patiently(call: Callable[[], object]) -> None:
    """Again, while librdkafka says that this may help."""
    while True:
        try:
            call()
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
