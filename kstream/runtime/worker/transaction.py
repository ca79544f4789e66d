"""The producer of a worker and its transaction: where every record of every task leaves.

One transaction spans all tasks of the worker. With at-least-once there is no transaction; `commit` then means that
everything was delivered.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

from kstream.errors import AbortRequired, InstanceFenced, KStreamError, ProducerLost, RecordRefused, TransactionError
from kstream.runtime.task.states import move
from kstream.runtime.worker.states import TRANSACTION_MOVES, TransactionState
from kstream.types import Clients, Delivered, Headers, Produce, ProducerClient, TopicPartition

log = logging.getLogger(__name__)


REPORT_SECONDS = 0.2
"""How long a report of the record is waited for after the transaction failed. There is none where the transaction may
not write to the topic at all."""


class Transaction:
    """Implements the operators' `Outlet`.

    Args:
        let_go: whether the consumer group has let this worker go. It is asked where another has fenced the producer:
            then those who are left did it (lingering.py), and the worker goes on with a new producer.

    Attributes:
        produce: the current producer's method; read it anew for each batch, it changes with producer and transaction.
        watched: whether all that is in the open transaction, or was in the last one, was watched.
        produced: records handed to producers since the worker started, by topic.
        blocked: seconds that were spent waiting for room in the producer's queue.
        refused: of a watched transaction, the first record that the broker did not take; the largest where they are
            too large, and one of which it is known why before those of its batch.
    """

    def __init__(
        self,
        clients: Clients,
        transactional_id: str | None,
        *,
        timeout: float,
        let_go: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clients, self._id, self._timeout, self._let_go = clients, transactional_id, timeout, let_go
        self._producer: ProducerClient | None = None
        self._prepared: ProducerClient | None = None
        self._state = TransactionState.LOST
        self.produced: defaultdict[str, int] = defaultdict(int)
        self.blocked = 0.0
        self.refused: RecordRefused | None = None
        self._watched = self.watched = False
        self._written: set[str] = set()  # topics, while watched
        self._spoilt = False  # the broker refused a record: the producer is of no use after the abort

    @property
    def state(self) -> TransactionState:
        return self._state

    @property
    def exactly_once(self) -> bool:
        return self._id is not None

    def prepare(self) -> None:
        """Makes the producer of the first `start`: it connects meanwhile.

        Raises:
            ConfigError: its settings are refused.
        """
        self._prepared = self._clients.producer(self._id)

    def start(self) -> None:
        """Makes a new producer; its `init_transactions` ends or aborts what a predecessor left open.

        Raises:
            InstanceFenced, ProducerLost: it could not.
        """
        prepared, self._prepared = self._prepared, None
        self.discard()
        producer = prepared or self._clients.producer(self._id)
        if self._id is not None:
            try:
                producer.init_transactions(self._timeout)
            except BaseException:
                producer.close()
                raise
        self._producer, self._spoilt = producer, False
        self._choose_produce()
        self._go(TransactionState.IDLE)

    def begin(self) -> None:
        """Opens a transaction unless one is open. No I/O.

        Raises:
            ProducerLost: it could not. There is nothing that an abort could mend.
        """
        if self._state is TransactionState.IDLE:
            if self._id is not None:
                try:
                    self._guarded(lambda producer: producer.begin())
                except AbortRequired as error:
                    self._lose()
                    raise ProducerLost(f"the transaction cannot begin: {error}") from error
                self._choose_produce()
            self.watched = self._watched
            self._go(TransactionState.OPEN)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, each record's delivery is watched: where the broker refuses one, `refused` says which. That costs a
        call of Python a record, so it is for the search of the record at fault (`runtime/task/failures.py`).
        Nothing is in the transaction yet, though it may be open: a task that waits for an input may have begun it."""
        self.refused, self._watched, self.watched = None, True, True
        self._written.clear()
        self._choose_produce()
        try:
            yield
        finally:
            self._watched = False
            self._choose_produce()

    @cached_property
    def produce(self) -> Produce:
        """Taken from the producer by the first that sends: it counts the transaction's time from then on."""
        if self._producer is None:
            return _no_producer
        return self._produce_and_watch if self._watched else self._producer.produce

    def _choose_produce(self) -> None:
        self.__dict__.pop("produce", None)

    def _produce_and_watch(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int = -1,
        _callback: None = None,
        _on_delivery: None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
        /,
    ) -> None:
        """As the producer's `produce`. What it raises is of kstream's errors already: `meaning` leaves it as it is."""
        self._written.add(topic)
        self._use().produce_watched(topic, value, key, partition, self._was_delivered, timestamp, headers)

    def named(self, error: KStreamError) -> KStreamError:
        """What the broker refused in the transaction that was watched and failed with `error`, which may not say."""
        if self._state is TransactionState.LOST:
            return self.refused or error
        deadline = time.monotonic() + REPORT_SECONDS
        while self.refused is None and self._written and time.monotonic() < deadline:
            try:  # its report may not be served yet
                self._guarded(lambda producer: producer.poll(0.01))
            except (AbortRequired, ProducerLost):
                break
        if self.refused is not None or not self._written or (isinstance(error, TransactionError) and error.topic):
            return self.refused or error
        return KStreamError(f"{error} (written to: {', '.join(sorted(self._written))})")

    def _was_delivered(self, _offset: int | None, refused: RecordRefused | None) -> None:
        if refused is None:
            return
        before = self.refused
        larger = before and before.code == refused.code == "MSG_SIZE_TOO_LARGE" and refused.size > before.size
        if before is None or larger or (_of_its_batch(before) and not _of_its_batch(refused)):
            self.refused = refused

    def produce_watched(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered,
        headers: Headers | None = None,
    ) -> None:

        def told(offset: int | None, refused: RecordRefused | None) -> None:
            self._was_delivered(offset, refused)
            delivered(offset, refused)

        while True:
            try:
                self._guarded(lambda producer: producer.produce_watched(topic, value, key, partition, told, 0, headers))
                return
            except BufferError:
                self.wait_for_room()

    def wait_for_room(self) -> None:
        began = time.monotonic()
        self._guarded(lambda producer: producer.poll(0.1))
        self.blocked += time.monotonic() - began

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        """The error of kstream.errors for what `produce` raised: RecordRefused, or as the methods here."""
        if self._producer is None:
            return ProducerLost(f"there is no producer: {error}")
        meant = self._producer.meaning(error, topic, value, key, partition)
        if isinstance(meant, ProducerLost | InstanceFenced):
            self._lose()
        return self._fenced(meant) if isinstance(meant, InstanceFenced) else meant

    def poll(self) -> None:
        """Serves delivery reports.

        Raises:
            ProducerLost, InstanceFenced: the producer is of no more use.
        """
        if self._producer is not None and self._state is not TransactionState.LOST:
            self._guarded(lambda producer: producer.poll(0.0))

    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], group: object, metadata: Mapping[TopicPartition, str]
    ) -> None:
        self._guarded(lambda producer: producer.send_offsets(offsets, metadata, group))

    def deliver(self) -> None:
        """Waits until what was sent is delivered. With at-least-once: changes of state must not be there without what
        came of them. Raises as `commit`."""
        self._guarded(lambda producer: producer.flush(self._timeout))

    def commit(self) -> None:
        """Ends the transaction; with at-least-once waits until all is delivered.

        Raises:
            AbortRequired: nothing was committed; `abort` is next.
            ProducerLost: the outcome is unknown; `start` is next, then restore.
        """
        if self._id is None:
            self.deliver()
        else:
            self._guarded(lambda producer: producer.commit(self._timeout))
        self._go(TransactionState.IDLE)
        try:
            self.poll()
        except AbortRequired as error:  # it was committed: nothing may be taken back, what is true is in Kafka
            self._lose()
            raise ProducerLost(f"after the commit: {error}") from error

    def abort(self) -> None:
        """Takes back what was sent since `begin` (with at-least-once nothing can be).

        Raises:
            ProducerLost: the producer is of no more use.
        """
        if self._state is not TransactionState.OPEN:
            return
        if self._id is not None:
            try:
                self._use().abort(self._timeout)
            except InstanceFenced as error:
                self._lose()
                raise self._fenced(error) from error.__cause__
            except (AbortRequired, ProducerLost) as error:
                self._lose()
                raise ProducerLost(f"the transaction could not be aborted: {error}") from error
        self._go(TransactionState.IDLE)
        if self._spoilt:  # librdkafka has lost count of the sequence: the next transaction would be refused for that
            self.start()

    def discard(self) -> None:
        made = self._producer, self._prepared
        self._producer = self._prepared = None
        self._choose_produce()
        for producer in made:
            if producer is not None:
                producer.close()
        if self._state is not TransactionState.LOST:
            self._go(TransactionState.LOST)

    def _guarded(self, call: Callable[[ProducerClient], None]) -> None:
        try:
            call(self._use())
        except ProducerLost:
            self._lose()
            raise
        except InstanceFenced as error:
            self._lose()
            raise self._fenced(error) from error.__cause__
        except AbortRequired as error:
            self._spoilt = self._spoilt or error.refused
            raise

    def _fenced(self, error: InstanceFenced) -> InstanceFenced | ProducerLost:
        """What it means that the producer was fenced."""
        if not self._let_go():
            return error
        return ProducerLost(f"{error}: the group has let this worker go, and those who are left ended its transaction")

    def _lose(self) -> None:
        if self._state is not TransactionState.LOST:
            self._go(TransactionState.LOST)

    def _use(self) -> ProducerClient:
        if self._producer is None or self._state is TransactionState.LOST:
            raise ProducerLost("the producer is closed or lost")
        return self._producer

    def _go(self, to: TransactionState) -> None:
        move("transaction", self._state, to, TRANSACTION_MOVES)
        self._state = to


def _of_its_batch(refused: RecordRefused) -> bool:
    """Whether it may have been refused for another record of its batch."""
    return refused.code == "INVALID_RECORD" and refused.key is not None


def _no_producer(*_: object) -> None:
    raise ProducerLost("there is no producer")
