"""What librdkafka's errors mean to kstream, and the log of those that pass by themselves.

All of it goes to the logger `kstream.kafka`, librdkafka's own lines too. While brokers are down there are many a
second: of those alike one is logged in ten seconds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from kstream.errors import (
    ConfigError,
    InstanceFenced,
    KafkaUnavailable,
    KStreamError,
    PartitionUnreadable,
    TopicError,
)
from kstream.observe.throttle import Throttle
from kstream.runtime.kafka.entry import Tokens, is_refusal, no_token, refused
from kstream.runtime.kafka.options import logger

T = TypeVar("T")

FENCED: Final = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.UNRELEASED_INSTANCE_ID,
    }
)
DENIED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_RIGHTS: Final = {
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
}
"""What the right that is missing is to."""

NO_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
    }
)

UNREADABLE: Final = {
    KafkaError._BAD_COMPRESSION: (
        "the batch there is corrupt, or unpacks to more than the client takes "
        "(kafka.consumer.receive.message.max.bytes, 100 MB by default)"
    ),
    KafkaError._BAD_MSG: "the batch there is corrupt",
    KafkaError.INVALID_MSG: "the batch there is corrupt, the broker says",
    KafkaError.MSG_SIZE_TOO_LARGE: (
        "the batch there is larger than the client takes (kafka.consumer.receive.message.max.bytes)"
    ),
    KafkaError._NOT_IMPLEMENTED: "the client cannot unpack the batch there",
}
"""What a consumer says again and again of what lies at its position in one partition. It reads on in the others."""

NOT_OWNER: Final = frozenset(
    {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS}
)
"""What a commit of offsets ends with when the group has rebalanced since."""

SEEK_AGAIN: Final = frozenset({KafkaError._STATE, KafkaError._IN_PROGRESS, KafkaError._TIMED_OUT, KafkaError._OUTDATED})
"""What `seek` ends with while librdkafka's own thread has not taken up the assignment."""

REFUSED: Final = frozenset(
    {
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_ARG,
        *NO_TOPIC,
    }
)
"""What a broker or librdkafka says of a record, or of its batch, that it will never take."""


def is_fatal(error: KafkaError) -> bool:
    """Whether the client is of no more use. `_FATAL` stands for an error that was fatal before, without its flag."""
    return error.fatal() or error.code() == KafkaError._FATAL


def is_fenced(error: KafkaError) -> bool:
    """Whether another process took over. A consumer hears it as `_FATAL`, with the real error in the text only."""
    return error.code() in FENCED or (error.code() == KafkaError._FATAL and "fenced" in error.str())


def describe(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"


def of(error: KafkaException) -> KafkaError:
    """The error inside the exception."""
    inner = error.args[0]
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def unreadable(topic: str, partition: int, offset: int, error: KafkaError) -> PartitionUnreadable:
    """For an error of `UNREADABLE`."""
    return PartitionUnreadable(topic, partition, offset, f"{UNREADABLE[error.code()]}: {describe(error)}")


def make(client: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    """A client.

    Raises:
        ConfigError: librdkafka refuses the configuration.
        KafkaUnavailable: there is no token to log in with.
    """
    tokens = config.get("oauth_cb")
    if isinstance(tokens, Tokens):  # the client would wait for one for ten seconds, and say no reason
        tokens.try_out()
    try:
        return client(config)
    except KafkaException as error:
        text = of(error).str()
        if lacking := re.search(r"No provider for SASL mechanism (\S+?):.*?(?:options: (.*))?$", text):
            raise ConfigError(
                f"kafka.sasl.mechanism {lacking[1]} is not in the librdkafka of this confluent-kafka (it has "
                f"{lacking[2]}): its wheels come without Kerberos; install one that was built with libsasl2, or log in "
                "in another way"
            ) from None
        raise ConfigError(f"Kafka client: {text}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Kafka client: {error}") from None


def may_not(error: KafkaError, right: str, servers: str, doing: str) -> str | None:
    """The line of a right that is missing; None where the error says something else.

    Args:
        right: Kafka's name of the operation, and what it is done to: "READ group clicks".
    """
    kind = _RIGHTS.get(error.code())
    if kind is None or right.partition(" ")[2].removeprefix(kind) == right.partition(" ")[2]:
        return None
    return f"this user may not {right} of Kafka at {servers}: give it that right ({doing}: {describe(error)})"


def meaning(error: KafkaError, doing: str, servers: str, right: str = "") -> KStreamError:
    """The error of an operation that is outside any transaction, which needs this right (see `may_not`)."""
    text = f"{doing}: {describe(error)}"
    if (lacking := may_not(error, right, servers, doing)) is not None:
        return TopicError(lacking) if error.code() in NO_TOPIC else KafkaUnavailable(lacking)
    if is_fenced(error):
        return InstanceFenced(
            f"another process runs under the same identity, or an earlier connection of its own was under way ({text})"
        )
    if error.code() in NO_TOPIC:
        return TopicError(text)
    if error.code() in DENIED:
        if is_refusal(error):
            return no_token(error) or refused(error, servers)
        return KafkaUnavailable(f"Kafka at {servers} denies access: check the credentials and the ACLs ({text})")
    return KafkaUnavailable(f"Kafka at {servers} ({text})")


@contextmanager
def as_ours(doing: str, servers: str) -> Iterator[None]:
    """Around calls of a client: what librdkafka says comes out as one of kstream's errors."""
    try:
        yield
    except KafkaException as error:
        raise meaning(of(error), doing, servers) from error


_UNREAD: Final = re.compile(r"([\w.-]+)(?:\(\S*?\)+)?\[\d+\]\(Broker: Topic authorization failed\)")
"""How librdkafka names a partition whose offset is not put into a transaction; in round brackets is the topic's id."""


def unread(error: KafkaError) -> TopicError | None:
    """What it means that offsets may not be committed; None where that is not what the error says."""
    found = _UNREAD.search(error.str()) if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else None
    if found is None:
        return None
    return TopicError(f"topic {found[1]}: {describe(error)}; this user may not READ topic {found[1]}", found[1])


class Trouble:
    """Takes a client's errors outside any call (`error_cb`): keeps those that end it, logs the others.

    It does not refer to the client: a cycle would keep a dropped client alive until the garbage collector comes.

    Args:
        alone: the client is in no group. librdkafka looks for the coordinator of one all the same, and its user need
            not have the right to.
    """

    def __init__(self, who: str, level: int = logging.WARNING, *, alone: bool = False) -> None:
        self._who, self._level, self._alone = who, level, alone
        self.last: KafkaError | None = None
        """The first fatal error, or the latest that says that access is denied."""
        self.refusal: KafkaError | None = None
        """The latest of a broker that does not let this client in, or that it does not trust."""

    def __call__(self, error: KafkaError) -> None:
        if self._alone and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return
        if is_refusal(error):
            self.refusal = error
        if is_fatal(error) or error.code() in DENIED:
            if self.last is None or not is_fatal(self.last):
                self.last = error
        else:
            self.note(error)

    def take(self) -> KafkaError | None:
        """What ends the client, if anything. A fatal error stays, a denial is told once: it may be over."""
        error = self.last
        if error is not None and not is_fatal(error):
            self.last = None
        return error

    def note(self, error: KafkaError) -> None:
        """Logs an error that librdkafka gets over by itself."""
        logger.log(self._level, "%s: %s", self._who, describe(error))


class RefusedTopics(logging.Filter):
    """Hears which topic a transaction may not write to: librdkafka tells it nowhere but in its log.

    Attributes:
        last: the one it told last; the producer that takes it sets it to None.
    """

    _LINE: Final = re.compile(r'Failed to add partition "([^"]+)" \[\d+\] to transaction: Broker: Topic authorization')

    def __init__(self) -> None:
        super().__init__()
        self.last: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and record.args[:1] == ("ADDPARTS",):
            found = self._LINE.search(str(record.args[-1]))
            if found is not None:
                self.last = found[1]
        return True


refused_topics = RefusedTopics()
"""Of this process: a worker has one producer with transactions."""


class ClientLines(logging.Filter):
    """Gives librdkafka's own lines the level they have for kstream.

    It logs at ERROR whatever goes wrong between it and a broker, and tries again by itself. That is a warning; where it
    is told as an error too (`FAIL`), which `Trouble` logs with the client's name, it is for debugging. So is the
    question that wakes an idle consumer and whose answer is not waited for (`Consumer._wake`).
    """

    _WAKE: Final = re.compile(r"Timed out ListOffsetsRequest in flight \(after \d{1,3}ms,")
    _ONE: Final = re.compile(r"Timed out 1 in-flight, 0 retry-queued, 0 out-queue, 0 partially-sent requests")

    def __init__(self) -> None:
        super().__init__()
        self._woke: set[object] = set()  # clients of which the next line counts that question

    def filter(self, record: logging.LogRecord) -> bool:
        if not isinstance(record.args, tuple) or len(record.args) != 3:
            return True  # one of ours
        if record.args[0] == "REQTMOUT" and self._is_wake(record.args[1], str(record.args[2])):
            level = logging.DEBUG
        elif record.levelno == logging.ERROR:
            level = logging.DEBUG if record.args[0] == "FAIL" else logging.WARNING
        else:
            return True
        record.levelno, record.levelname = level, logging.getLevelName(level)
        return logger.isEnabledFor(level)

    def _is_wake(self, client: object, text: str) -> bool:
        if self._WAKE.search(text):
            self._woke.add(client)
            return True
        woke = client in self._woke
        self._woke.discard(client)
        return woke and self._ONE.search(text) is not None


logger.addFilter(refused_topics)
logger.addFilter(ClientLines())
logger.addFilter(Throttle())
