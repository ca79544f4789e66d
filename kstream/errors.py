"""Every error kstream raises, as one tree.

KStreamError
├── UsageError                  the user can mend it: one line, exit status 2, no traceback
│   ├── ConfigError             a setting is missing or bad
│   ├── AppLoadError            `module:attribute` cannot be loaded
│   ├── TopologyError           the declared graph cannot run
│   ├── StoredTypeChanged       a store's type cannot read what it was written with
│   ├── TopicError              a topic is missing or does not fit (partitions, retention, compaction)
│   ├── KafkaUnavailable        the brokers cannot be reached or deny access
│   ├── IdentityInUse           two instances with one name
│   ├── StateDirectoryError     the state folder belongs to another app, is in use or cannot be written
│   │   └── StateInUse          another process has the local state of a task open
│   ├── StateTooLarge           the memory backend is over its limit
│   ├── ValueTooLarge           a value of state has more bytes than a query answers
│   ├── MetricsError            a metric of the user's is declared or counted wrongly
│   └── BrokerError             the development broker cannot start
├── RestartsExhausted           a worker or a task failed more often than its restart strategy allows
├── CheckpointsFailed           more commits in a row failed than tolerable_failed_checkpoints: the worker ends
├── LifespanFailed              the app's lifespan raised, before its yield or after
├── LeavingFailed               members that are gone stay in their group until their session ends
├── CodecError                  bytes that cannot be decoded, a value that cannot be encoded
│   ├── EntryUnreadable         an entry of a table that cannot be decoded any more
│   └── JsonOutOfBounds         JSON of an input record that is deeper than max_json_depth, or has too long a number
├── AgentTooSlow                an async agent was longer at a record than its timeout
├── ResultFailed                what is done with a result that no record is behind
│   ├── ProcessorFailed         `open` of a processor
│   └── TimerFailed             `on_timer` of a processor or an agent
├── RecordRefused               a record to be written that Kafka does not take: topic, key, size, why
├── RecordTooLarge              an input record is over max_record_bytes
├── PartitionUnreadable         what lies in a partition at an offset is corrupt, or cannot be unpacked
├── TableError                  a table used outside its task, or a key of another partition
│   ├── TableUndeclared         nothing says that the function which uses a table does: no record's fault
│   └── MutatedWithoutAssignment  a value was changed in place and not assigned back (in the TestDriver)
├── ProcessingError             user code or a codec failed on one record: task, topic, partition, offset, cause
├── StateError                  local state is damaged (it is rebuilt from the changelog)
├── StorageError                where snapshots lie cannot be read or written
│   └── FileMissing             there is no file of this name
├── SnapshotError               a snapshot is damaged, incomplete, or another task's
├── SnapshotsFailed             more snapshots of a task in a row failed than are tolerated
├── StateUnavailable            a query of state finds nobody who can answer it now: its partition moves or is restored
├── SavepointFailed             a savepoint could not be made, and the app goes on as before
└── TransactionError            what a transactional call may come back with
    ├── AbortRequired           abort, go back to the committed offsets, go on with the same producer
    ├── ProducerLost            the producer is of no more use, the outcome may be unknown: new one, restore
    └── InstanceFenced          another process runs under this identity: stop

Retryable and NonRetryable are no errors of kstream's: they are bases for exceptions of users' own (specs/policy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class KStreamError(Exception):
    """Base of all errors of kstream. `exit_status` is what the command line ends with."""

    exit_status = 1


class UsageError(KStreamError):
    """Something the user can mend; the message says what is wrong and what to do, in one line."""

    exit_status = 2


class ConfigError(UsageError):
    """A setting is missing or has a bad value."""


class AppLoadError(UsageError):
    """`module:attribute` does not lead to an App."""


class TopologyError(UsageError):
    """The declared streams, tables and agents do not form a graph that can run."""


class StoredTypeChanged(UsageError):
    """The type of a store cannot read what the store may hold. It names the store, both types and the difference."""


class TopicError(UsageError):
    """A topic is missing, or its partitions or settings do not fit.

    Attributes:
        topics: those that a consumer cannot read, while it can read others. Empty where it is about something else.
    """

    def __init__(self, text: str, *topics: str) -> None:
        self.topics = topics
        super().__init__(text)


class KafkaUnavailable(UsageError):
    """The brokers cannot be reached, or refuse the connection."""


class IdentityInUse(UsageError):
    """Another running instance has the same name."""


class StateDirectoryError(UsageError):
    """The state directory belongs to another app, is in use, or cannot be written."""


class StateInUse(StateDirectoryError):
    """Another process has the local state of a task open."""


class StateTooLarge(UsageError):
    """The memory backend holds more than `memory_backend_limit`."""


class MetricsError(UsageError):
    """A metric of the user's is declared or counted in a way that Prometheus would not take."""


class BrokerError(UsageError):
    """The development broker cannot be installed or started."""


class RestartsExhausted(KStreamError):
    """A worker or a task failed more often than its restart strategy allows: the instance stops. It says which one."""


class CheckpointsFailed(KStreamError):
    """More commits of a worker failed one after the other than `tolerable_failed_checkpoints`: the worker ends."""


class LifespanFailed(KStreamError):
    """The app's lifespan raised, before its yield or after. The user's exception is `__cause__`."""


class LeavingFailed(KStreamError):
    """Members that are gone could not be taken out of their group: their partitions rest until their session ends."""


class CodecError(KStreamError):
    """Bytes that cannot be decoded, or a value that cannot be encoded."""


class EntryUnreadable(CodecError):
    """An entry of a table cannot be decoded as the type that the table has now. It names table and key."""


class AgentTooSlow(KStreamError):
    """An async agent was longer at a record than its `timeout`."""


class Retryable(Exception):
    """A base for exceptions of one's own that may pass: `Retry` without `on=` and `phase=` is for them wherever they
    are raised."""


class NonRetryable(Exception):
    """A base for exceptions of one's own that will be the same the next time: no `Retry` is for them."""


class ResultFailed(KStreamError):
    """What is done with a result that no record is behind (of a window that closes, a timer, a commit) has failed; its
    cause is what was raised. No record is at fault: policies decide about the result. `goes_on`: one says so."""

    goes_on = False


class ProcessorFailed(ResultFailed):
    """`open` of a processor has failed; its cause is what was raised. The task stops, as above."""


class TimerFailed(ResultFailed):
    """`on_timer` of a processor or an agent (`of`) has failed; its cause is what was raised. The policies for the phase
    "timer" decide.

    Attributes:
        processor: the name of that.
        timer: what the timer is called, and `at` when it was due (ms). `entry` is how its store has it.
    """

    def __init__(self, of: str, name: str, key: str, timer: str, at: int, entry: bytes, cause: BaseException) -> None:
        self.processor, self.timer, self.at, self.entry = name, timer, at, entry
        super().__init__(
            f"on_timer of {of} {name!r} failed for key {key}, timer {timer!r} of {at} (ms): "
            f"{type(cause).__name__}: {text_of(cause)}"
        )


class RecordRefused(KStreamError):
    """A record that was to be written, and that Kafka or its client does not take, now or the next time. The broker
    answers for a batch: what was sent together with the bad record is refused with it, as INVALID_RECORD.

    Attributes:
        code: Kafka's name for the reason: INVALID_RECORD, MSG_SIZE_TOO_LARGE, INVALID_TIMESTAMP,
            TOPIC_AUTHORIZATION_FAILED, _UNKNOWN_PARTITION and the like; TypeError where it is no record at all.
        topic, partition: where to; partition -1 is the one that the key chooses.
        key: as it was to be written.
        size: bytes of key and value.
        timestamp: in ms since the epoch; 0 where it is not known. `why` is what the code means.
        asked, told: when the client got it, and when it was known that Kafka refuses it (s since the epoch); 0 where
            that is not known.
        known: Kafka was not asked, for it refused a record like this a short while ago.
    """

    def __init__(
        self,
        code: str,
        topic: str,
        partition: int,
        key: bytes | None,
        size: int,
        why: str = "",
        *,
        timestamp: int = 0,
        asked: float = 0.0,
        told: float = 0.0,
        known: bool = False,
    ) -> None:
        self.code, self.topic, self.partition, self.key, self.size = code, topic, partition, key, size
        self.timestamp, self.asked, self.told, self.known = timestamp, asked, told, known
        where = topic if partition == -1 else f"{topic}[{partition}]"
        why = _REFUSALS[code].format(topic=topic) if code in _REFUSALS else why
        self.why = _OF_ITS_BATCH if code == "INVALID_RECORD" and key is not None else why
        super().__init__(
            f"Kafka refuses a record for {where}, {_shown(key)}, {size:,} bytes without headers: {self.why} ({code})"
            f"{', as it refused another less than a minute ago' if known else ''}"
        )


_OF_ITS_BATCH = "it, or another record of the batch it was sent in, cannot be taken"
_REFUSALS = {
    "INVALID_RECORD": "a compacted topic takes no record without a key",
    "INVALID_TIMESTAMP": "its timestamp is outside the topic's message.timestamp.before.max.ms or .after.max.ms",
    "MSG_SIZE_TOO_LARGE": (
        "it, or the batch it was sent in (kafka.batch.size), is larger than the topic's max.message.bytes, or it is "
        "larger than the producer's message.max.bytes"
    ),
    "TOPIC_AUTHORIZATION_FAILED": "this user may not WRITE topic {topic}: give it that right",
    "UNKNOWN_TOPIC_OR_PART": "the topic does not exist",
    "_UNKNOWN_PARTITION": "the topic has no such partition",
    "_UNKNOWN_TOPIC": "the topic does not exist",
}


def _shown(key: bytes | None, longest: int = 84) -> str:
    """A key for a message, cut where it is long."""
    text = "no key" if key is None else f"key {key.decode(errors='backslashreplace')!r}"
    return text if len(text) <= longest else f"{text[:longest]}…"


class JsonOutOfBounds(CodecError):
    """The JSON of an input record is deeper than `max_json_depth`, or has a number longer than `max_number_length`. It
    is not decoded."""


class RecordTooLarge(KStreamError):
    """An input record has more bytes of key, value and headers than `max_record_bytes`. It is not decoded."""


class PartitionUnreadable(KStreamError):
    """What lies in a partition at an offset cannot be read: it is corrupt, or unpacks to more than the client takes.
    `topic`, `partition` and `offset` say where it lies, `why` is what is known of it."""

    def __init__(self, topic: str, partition: int, offset: int, why: str, task: str | None = None) -> None:
        self.topic, self.partition, self.offset, self.why = topic, partition, offset, why
        stopped = "" if task is None else f"task {task} stopped: "
        super().__init__(f"{stopped}{topic}[{partition}] cannot be read at offset {offset}: {why}")

    def of(self, task: str) -> PartitionUnreadable:
        """The same, said of a task that it stopped."""
        return PartitionUnreadable(self.topic, self.partition, self.offset, self.why, task)


class TableError(KStreamError):
    """A table was used where it cannot be: outside its task, or with a key of another partition."""


class TableUndeclared(TableError):
    """A function used a table that its task has not, for nothing says so. No policy decides: the task stops."""


class MutatedWithoutAssignment(TableError):
    """A value read from a table was changed in place and not assigned back (found by the TestDriver)."""


class StateError(KStreamError):
    """Local state is damaged or does not belong to its changelog; it is rebuilt, never trusted."""


class StorageError(KStreamError):
    """Where snapshots lie cannot be reached, refuses, or is full."""


class FileMissing(StorageError):
    """A storage has no file of this name."""


class SnapshotError(KStreamError):
    """A snapshot is damaged, incomplete, another task's, or of a later version: it is not used."""


class SnapshotsFailed(KStreamError):
    """More snapshots of a task, of the name `task`, failed one after the other than are tolerated: the task fails."""

    def __init__(self, task: str, text: str) -> None:
        self.task = task
        super().__init__(text)


class ValueTooLarge(UsageError):
    """A value of state has more bytes than a query answers (4 MiB).

    Attributes:
        keys: whose values these are; as the store has them.
        found: what else was asked for and is there, by key.
    """

    def __init__(self, text: str, keys: Sequence[Any] = (), found: Mapping[Any, Any] | None = None) -> None:
        self.keys, self.found = list(keys), dict(found or {})
        super().__init__(text)


class StateUnavailable(KStreamError):
    """A query of state that nobody can answer now: its partition moves, is restored, or its instance does not answer.
    Try again.

    Attributes:
        keys: those that could not be looked up, where keys were asked for; as the store has them.
        found: what else was asked for and is there, by key.
    """

    def __init__(self, text: str, keys: Sequence[Any] = (), found: Mapping[Any, Any] | None = None) -> None:
        self.keys, self.found = list(keys), dict(found or {})
        super().__init__(text)


class SavepointFailed(KStreamError):
    """A savepoint could not be made: it does not exist, and the app goes on as before. The message is one line.

    Attributes:
        why: the reason alone.
    """

    def __init__(self, name: str, why: str) -> None:
        self.why = why
        super().__init__(f"there is no savepoint {name}, the app goes on: {why}")


def text_of(error: BaseException, form: Callable[[BaseException], str] = str) -> str:
    """What an error says. One of the user's may fail when it is asked: that must not spread."""
    try:
        return str.__str__(form(error))  # no class of the user's
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"{type(error).__name__} (its text cannot be had)"


class ProcessingError(KStreamError):
    """A record could not be processed.

    Attributes:
        task: name of the task, `<sub-topology>/<partition>`.
        topic, partition, offset: where the record lies.
    The user's exception is `__cause__`.
    """

    def __init__(self, task: str, topic: str, partition: int, offset: int, cause: BaseException) -> None:
        self.task, self.topic, self.partition, self.offset = task, topic, partition, offset
        # an error that is internal to kstream is called by the class in this module that users know
        kind = next(k for k in type(cause).__mro__ if k.__module__ == __name__ or str(k.__module__)[:8] != "kstream.")
        where = f"task {task} stopped at {topic}[{partition}] offset {offset}"
        super().__init__(f"{where}: {kind.__name__}: {text_of(cause)}")


class TransactionError(KStreamError):
    """A transactional call did not succeed.

    Attributes:
        refused: records were refused, that is why (or may be why: the client does not always tell it from a time-out).
            Doing the same again ends the same. Which ones, only `produce_watched` tells.
        topic: the one that this user may not write to, where it is known that that is why.
    """

    def __init__(self, text: str = "", *, refused: bool = False, topic: str | None = None) -> None:
        self.refused, self.topic = refused, topic
        super().__init__(text)


class AbortRequired(TransactionError):
    """The transaction must be aborted; the producer stays good."""


class ProducerLost(TransactionError):
    """The producer is of no more use; whether the transaction was committed may be unknown."""


class InstanceFenced(TransactionError):
    """Another process runs under the same identity (group.instance.id or transactional.id)."""
