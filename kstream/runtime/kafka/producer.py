"""The producer: records, delivery reports, transactions, and what each error of theirs asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import Final, NoReturn

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from kstream.errors import (
    AbortRequired,
    InstanceFenced,
    KafkaUnavailable,
    KStreamError,
    ProducerLost,
    RecordRefused,
)
from kstream.runtime.kafka.entry import refused
from kstream.runtime.kafka.options import KafkaOptions, logger
from kstream.runtime.kafka.positions import client_positions
from kstream.runtime.kafka.problems import (
    DENIED,
    REFUSED,
    Trouble,
    describe,
    is_fatal,
    is_fenced,
    make,
    may_not,
    of,
    refused_topics,
    unread,
)
from kstream.runtime.kafka.timely import in_time
from kstream.types import Delivered, Headers, Produce, TopicPartition

_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})

RETRY_SECONDS: Final = 0.05

HEAR_SECONDS: Final = 1.0
"""How long the first call of a producer goes on before it is asked whether it is let in."""

GRACE_SECONDS: Final = 3.0
"""How long after its time-out a call that does not keep it is given up."""


class KafkaProducer:
    """Implements `kstream.types.ProducerClient`.

    `produce` is librdkafka's own method (0.45 microseconds a call; a timestamp by position costs nothing, by name
    0.25). In a transaction, who reads the attribute for the first time is about to send. What it raises besides
    BufferError is confluent_kafka's: `meaning` says what it means. Everything else raises kstream's errors only.

    With a transaction, librdkafka itself sees to it that a record that was not delivered fails the commit. Without one,
    every record has a delivery report, taken without running Python (0.2 microseconds), and `flush` raises.
    """

    def __init__(
        self,
        servers: str,
        options: KafkaOptions,
        transactional_id: str | None,
        statistics: Callable[[str], None] | None = None,
    ) -> None:
        self._servers, self._id = servers, transactional_id
        self._timeout = options.transaction_timeout
        self._sent: float | None = None  # when the first of a transaction was sent, aborted ones too, since a commit
        self._in_transaction = False
        self._trouble = Trouble(f"producer {transactional_id or ''}".rstrip(), options.passing_level)
        self._failures: dict[KafkaError | None, Message | None] = {}
        config = options.producer(servers, transactional_id) | {"error_cb": self._trouble}
        if statistics is not None:
            config["stats_cb"] = statistics
        if transactional_id is None:
            config["on_delivery"] = self._failures.setdefault  # (None, message) for those that were delivered
        self._producer: confluent_kafka.Producer | None = make(confluent_kafka.Producer, config)
        # Who is asked for something connects. Left to itself librdkafka does so when a timer comes round, and where
        # `init_transactions` comes before that it looks again after half a second (11 of 60 on an idle machine).
        with suppress(KafkaException):
            self._producer.list_topics(timeout=0)

    # ---- records

    @cached_property
    def produce(self) -> Produce:
        self._sends()
        return self._use().produce  # type: ignore[return-value]

    def _sends(self) -> None:
        if self._in_transaction and self._sent is None:
            self._sent = time.monotonic()

    def produce_watched(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """As `produce`, and `delivered` is called once the record is delivered or refused. Not called when it is
        neither (a time-out, an abort): then the transaction aborts, or `flush` raises.

        Raises:
            BufferError, RecordRefused, AbortRequired, ProducerLost, InstanceFenced.
        """
        failures, asked = self._failures, time.time()

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offset = message.offset()
                delivered(None if offset is None or offset < 0 else offset, None)
                return
            failures.setdefault(error, message)
            if error.code() in REFUSED:
                more = partial(RecordRefused, timestamp=timestamp, asked=asked, told=time.time())
                delivered(None, more(error.name(), topic, partition, key, size_of(value, key), error.str()))

        arguments = (topic, value, key, partition, report, None, timestamp)
        producer = self._use()
        self._sends()
        try:
            # As `callback`: where that is given, None too, `on_delivery` is not looked at.
            if headers is None:
                producer.produce(*arguments)
            else:
                producer.produce(*arguments, headers)  # type: ignore[arg-type]  # a list, as the protocol says
        except BufferError:
            raise
        except Exception as error:
            raise self.meaning(error, topic, value, key, partition) from error

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> KStreamError:
        """What `error`, which `produce` raised (neither BufferError nor ours), means: RecordRefused when this record is
        at fault, else what the other methods raise."""
        if not isinstance(error, KafkaException):  # TypeError, OverflowError and the like
            return RecordRefused(type(error).__name__, topic, partition, key, size_of(value, key), str(error))
        inner = of(error)
        if inner.code() in REFUSED:
            return RecordRefused(inner.name(), topic, partition, key, size_of(value, key), inner.str())
        if inner.code() == KafkaError._STATE:  # it does not say that the transaction failed, but that is why
            return self._failure() or AbortRequired(f"produce: {describe(inner)}")
        return self._meaning(inner, "produce")

    def _failure(self) -> KStreamError | None:
        """Why the transaction can only be aborted; None when that is not so.

        librdkafka keeps it to itself until the commit. It also says it, instead of beginning a second one, when it is
        asked to begin a transaction while there is one, and does nothing else then.
        """
        if not self._in_transaction:
            return None
        try:
            self._use().begin_transaction()
        except KafkaException as error:
            inner = of(error)
            return None if inner.code() == KafkaError._STATE else self._meaning(inner, "transaction")
        raise ProducerLost("the client lost its open transaction (a defect of kstream or librdkafka)")

    def poll(self, timeout: float = 0.0) -> None:
        """Serves delivery reports; what a `delivered` raises comes out here.

        Raises:
            ProducerLost, InstanceFenced: a fatal error, which is told here or by `flush`, whichever comes first.
        """
        producer = self._use()
        try:
            producer.poll(timeout)
        except KafkaException as error:
            self._raise(of(error), "poll")

    def flush(self, timeout: float) -> None:
        """Waits `timeout` seconds at most until all is delivered or refused.

        Raises:
            AbortRequired: a record of the transaction was not delivered, or the transaction failed otherwise.
            ProducerLost: without a transaction, a record was not delivered; or it took too long.
            InstanceFenced: as `poll`.
        """
        producer = self._use()
        try:
            left = producer.flush(timeout)
        except KafkaException as error:
            self._raise(of(error), "flush")
        self._check_deliveries()
        self._check_trouble()
        if (failure := self._failure()) is not None:
            raise failure
        if left:
            raise ProducerLost(f"{left} records were not delivered within {timeout:g} s")

    def _check_deliveries(self) -> None:
        error = next((each for each in self._failures if each is not None and each.code() not in _PURGED), None)
        if error is None:
            self._failures.clear()
            return
        message = self._failures[error]
        topic = "" if message is None else message.topic()
        text = may_not(error, f"WRITE topic {topic}", self._servers, "a record was not delivered")
        if text is None:
            text = f"a record {f'to {topic} ' if topic else ''}was not delivered: {describe(error)}"
        refused = error.code() in REFUSED
        if self._id is None:
            raise ProducerLost(text, refused=refused)
        raise AbortRequired(text, refused=refused)

    def _check_trouble(self) -> None:
        error = self._trouble.take()
        if error is not None:
            raise self._meaning(error, "producer")

    # ---- transactions

    def init_transactions(self, timeout: float) -> None:
        """Fences predecessors with the same transactional id and ends what they left open.

        Raises:
            InstanceFenced, ProducerLost.
            KafkaUnavailable: the brokers deny access, or do not let this client in.
        """
        producer = self._use()

        def begin(left: float) -> None:
            try:
                producer.init_transactions(min(left, HEAR_SECONDS))
            except KafkaException:
                producer.poll(0)  # librdkafka goes on trying, and says why elsewhere
                if (refusal := self._trouble.refusal) is not None:
                    raise refused(refusal, self._servers) from None
                raise

        self._call("init_transactions", begin, timeout)

    def begin(self) -> None:
        """Opens a transaction. No I/O."""
        self._failures.clear()
        self._anew()
        try:
            self._use().begin_transaction()
        except KafkaException as error:
            self._raise(of(error), "begin")
        self._in_transaction = True

    def _anew(self) -> None:
        """No transaction is open."""
        self._in_transaction = False
        self.__dict__.pop("produce", None)

    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], group: object
    ) -> None:
        """Puts the offsets (of the next records to read) into the transaction.

        Args:
            group: `ConsumerClient.group_metadata` of the assignment under which the work was done.

        Raises:
            ValueError: no offsets. Kafka takes that for a no-op, and nothing would be fenced.
            AbortRequired: the group has rebalanced since; and as `commit`.
            TopicError: an input may not be read any more; `abort` is next.
        """
        if not offsets:
            raise ValueError("no offsets: Kafka takes that for a no-op and fences nobody")
        positions = client_positions(offsets, metadata)
        producer = self._use()
        self._sends()
        self._call(
            "send_offsets",
            lambda timeout: in_time(
                lambda: producer.send_offsets_to_transaction(positions, group, timeout), timeout + GRACE_SECONDS
            ),
            self._timeout,
        )

    def commit(self, timeout: float) -> None:
        """Delivers what is queued, serves its reports and commits.

        Raises:
            AbortRequired: nothing was committed; `abort` is next.
            ProducerLost: the outcome may be unknown, after a time-out for one.
            InstanceFenced: a producer with the same transactional id was started elsewhere.
        """
        self._check_deliveries()
        self._call("commit", self._use().commit_transaction, timeout)
        self._anew()
        self._sent = None
        self._check_deliveries()

    def abort(self, timeout: float) -> None:
        """Aborts; what is queued is thrown away. Raises as `commit`, never AbortRequired. It may stay open at the
        broker, empty, where that just answers that a partition was added (librdkafka 2.16)."""
        try:
            self._call("abort", self._use().abort_transaction, timeout)
        except AbortRequired as error:
            raise ProducerLost(f"the transaction cannot be aborted: {error}") from error
        self._anew()
        self._failures.clear()

    def _call(self, name: str, call: Callable[[float], None], timeout: float) -> None:
        """Calls until it succeeds, fails for good, or the time (seconds) is over. All of these calls may be repeated
        with the same arguments after a retriable error; commit and abort go on where they were."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                call(max(deadline - time.monotonic(), 0.001))
                return
            except KafkaException as raised:
                error = of(raised)
            if not error.retriable() or is_fatal(error) or error.txn_requires_abort():
                self._raise(error, name)
            if time.monotonic() + RETRY_SECONDS >= deadline:
                raise ProducerLost(f"{name} took longer than {timeout:g} s: {describe(error)}")
            time.sleep(RETRY_SECONDS)

    def _raise(self, error: KafkaError, name: str) -> NoReturn:
        # _STATE does not say that the transaction failed, nor why, but that may be it
        failure = self._failure() if error.code() == KafkaError._STATE and name != "begin" else None
        raise (failure or self._meaning(error, name)) from KafkaException(error)

    def _meaning(self, error: KafkaError, name: str) -> KStreamError:
        """By flags: abortable, or the producer is lost. A fencing is told apart from the broker's own time-out, which
        looks the same (librdkafka lacks KIP-588): when the transaction was open for that long, it need not be another
        process. The broker counts from the first that is sent in it (or in one that was aborted: see there), not from
        `begin`. If it is one, the next `init_transactions` takes over, and group membership decides."""
        if is_fatal(error):
            if error.code() == KafkaError._FATAL and self._trouble.last is not None:
                error = self._trouble.last  # what was fatal before
            self._trouble(error)  # it is told once by its name, and holds from now on
        if name == "send_offsets" and not is_fatal(error) and (input_lost := unread(error)) is not None:
            return input_lost
        topic = self._refused_topic(error)
        lacking = may_not(error, self._right(error, topic), self._servers, name)
        text = lacking or f"{name}: {describe(error)}"
        if error.txn_requires_abort() and not is_fatal(error) and error.code() not in DENIED:
            # _INCONSISTENT: some were not delivered, whatever the reason
            refused = error.code() in REFUSED or error.code() == KafkaError._INCONSISTENT
            return AbortRequired(text, refused=refused, topic=topic)
        if error.code() in DENIED:
            return KafkaUnavailable(
                lacking or f"Kafka at {self._servers} denies access: check the credentials and the ACLs ({text})"
            )
        if is_fenced(error):
            age = 0.0 if self._sent is None else time.monotonic() - self._sent
            if age > 0.9 * self._timeout:
                return ProducerLost(f"{text}; the transaction may have been open for {age:.1f} s of {self._timeout:g}")
            return InstanceFenced(
                f"another process produces as {self._id}, or ended what it had open when its group let it go ({text})"
            )
        return ProducerLost(text)

    def _right(self, error: KafkaError, topic: str | None) -> str:
        """The right that may be missing."""
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return "READ group of the app"
        return f"WRITE transactional id {self._id}" if topic is None else f"WRITE topic {topic}"

    def _refused_topic(self, error: KafkaError) -> str | None:
        """The topic that the transaction may not write to, where that is what the error is about."""
        if error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED or self._producer is None:
            return None
        with suppress(KafkaException):
            self._producer.poll(0)  # serves the log
        topic, refused_topics.last = refused_topics.last, None
        return topic

    # ---- the end

    def close(self) -> None:
        """Throws away what is queued and frees the client. An open transaction is left to its time-out, or to the next
        `init_transactions`. Idempotent."""
        producer, self._producer = self._producer, None
        self.produce = _closed
        if producer is None:
            return
        try:
            producer.purge(blocking=False)
        except KafkaException as error:
            logger.debug("producer %s: purge: %s", self._id, error)

    def _use(self) -> confluent_kafka.Producer:
        if self._producer is None:
            raise ProducerLost("the producer is closed")
        return self._producer


def size_of(value: bytes | None, key: bytes | None) -> int:
    return sum(len(each) for each in (value, key) if isinstance(each, bytes | str))


def _closed(*_: object) -> None:
    raise ProducerLost("the producer is closed")
