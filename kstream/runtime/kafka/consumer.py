"""The consumer: polling by runs of one partition, rebalances, positions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from kstream.errors import AbortRequired, KafkaUnavailable, KStreamError, StateError, TopicError
from kstream.runtime.kafka.fetch import place_of, split
from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.kafka.positions import absolute, client_partition, client_positions, in_the_log
from kstream.runtime.kafka.problems import (
    NO_TOPIC,
    NOT_OWNER,
    SEEK_AGAIN,
    UNREADABLE,
    Trouble,
    describe,
    is_fatal,
    is_fenced,
    make,
    meaning,
    of,
    unreadable,
)
from kstream.runtime.kafka.pulse import Pulse
from kstream.runtime.kafka.waking import Waking
from kstream.types import BEGINNING, Polled, RebalanceListener, TopicPartition

SEEK_SECONDS: Final = 5.0
"""How long `seek` tries: a partition cannot be sought until librdkafka's own thread has taken up an assignment."""

FILL_SECONDS: Final = 0.01
"""How long a reader waits for a batch to fill, where it may wait: a replay by small batches takes twice the time."""

COMMIT_SECONDS: Final = 30.0


class KafkaConsumer:
    """Implements `kstream.types.ConsumerClient`. One thread polls it.

    Group members use the classic protocol with eager rebalances: on each one every partition is revoked, then the new
    ones are assigned, with the offsets that the listener says, paused. Nothing arrives from them before `resume`.

    All methods raise kstream's errors only: KafkaUnavailable once it is closed, or where nothing else is said.
    """

    def __init__(
        self,
        servers: str,
        options: KafkaOptions,
        group: str | None = None,
        member: str | None = None,
        statistics: Callable[[str], None] | None = None,
    ) -> None:
        self._servers = servers
        self._trouble = Trouble(f"consumer {member or 'of changelogs'}", options.passing_level, alone=group is None)
        config = options.consumer(servers, group, member) | {"error_cb": self._trouble}
        if statistics is not None:
            config["stats_cb"] = statistics
        self._consumer = make(confluent_kafka.Consumer, config)
        self._group = group
        self._listener: RebalanceListener | None = None
        self._topics = 1
        self._waking = None if group is None else Waking(self._consumer)
        self._pulse = Pulse(options.session_timeout)
        self._rebalanced = False
        self._fresh: dict[TopicPartition, int] = {}
        """Partitions assigned by the group and never resumed, with their starts."""
        self._raised: BaseException | None = None
        """What the listener raised in a callback of the current call."""
        self._later: KStreamError | None = None
        self._later_of: TopicPartition | None = None
        """An error that came along with good records: raised by the next poll, unless its partition is left by then."""

    # ---- what to read

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Joins the group with the next polls."""
        self._listener = listener
        self._topics = len(topics)
        with self._errors("subscription"):
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads just these partitions from these offsets; what was fetched of an assignment before is dropped."""
        self._topics = len({at.topic for at in positions})
        with self._errors("assignment"):
            self._consumer.assign(client_positions(absolute(self._consumer, self._trouble, positions)))

    # ---- reading

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Waits `timeout` seconds for a first record, then takes what is there, `max_records` at most. A reader waits a
        moment longer for more.

        What comes in the same call as a rebalance is dropped: it belongs to the assignment before (the new one is
        paused), and the listener has been told that it is gone.

        Raises:
            InstanceFenced: another process joined with this member id.
            KafkaUnavailable: the brokers deny access, or librdkafka gave up.
            TopicError: a topic is gone or may not be read, or (auto_offset_reset "error") the position is not in it.
            StateError: for a reader, the same: the changelog does not have this position.
            PartitionUnreadable: what lies at the position of one partition; it is told again and again.
            Whatever the listener raised.
        """
        self._raise_later()
        self._rebalanced = False
        self._pulse.beat()
        with self._errors("consumer"):
            # `consume` would wait for the number of records, not for the first one.
            first = (self._waking or self._consumer).poll(timeout)
            if first is None:
                messages = []
            else:
                more = 0 if self._group is not None else min(timeout, FILL_SECONDS)
                messages = self._consumer.consume(max_records - 1, more) if max_records > 1 else []
                messages.insert(0, first)
        self._pulse.beat()
        self._check()
        ends: dict[TopicPartition, int] = {}
        if self._rebalanced:  # set by the callbacks, within poll and consume
            self._without_errors(messages, ends)  # an error is told once: it is kept
            messages, ends = [], {}
        if any(map(Message.error, messages)):
            messages = self._without_errors(messages, ends)
        fetches = split(messages, self._topics)
        if not fetches and not ends:
            self._raise_later()
        return Polled(fetches, ends)

    def _raise_later(self) -> None:
        if self._later is not None:
            error, self._later = self._later, None
            raise error

    def _without_errors(self, messages: Iterable[Message], ends: dict[TopicPartition, int]) -> list[Message]:
        good = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[place_of(message)] = message.offset()  # type: ignore[assignment]
            elif self._later is None:
                self._later, self._later_of = self._of_message(message, error), place_of(message)
        return good

    def _of_message(self, message: Message, error: KafkaError) -> KStreamError | None:
        """The error that a message stands for; None where librdkafka gets over it, which is logged."""
        code = error.code()
        if code in UNREADABLE:
            return unreadable(*place_of(message), message.offset() or 0, error)
        if code == KafkaError._AUTO_OFFSET_RESET:
            text = f"{place_of(message)}: the position {message.offset()} is not in the log ({error.str()})"
            if self._group is None:
                return StateError(f"{text}; the store is to be restored from the beginning")
            text = f"{text}: set auto_offset_reset to earliest or latest, or reset the group's offsets"
            return TopicError(text, place_of(message).topic)
        if code in NO_TOPIC:
            topic = message.topic() or "?"
            text = f"topic {topic}: {describe(error)}"
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                text += f"; this user may not READ topic {topic}"
            return TopicError(text, *filter(None, [message.topic()]))
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED and self._group is None:
            return None  # see Trouble
        denied = code in (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION)
        if is_fatal(error) or is_fenced(error):
            self._trouble(error)  # it is told once as a message, and holds from now on
        if is_fatal(error) or is_fenced(error) or denied:
            return self._meaning(error, "consumer")
        self._trouble.note(error)
        return None

    def _check(self) -> None:
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        error = self._trouble.take()
        if error is not None:
            raise self._meaning(error, "consumer")

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Around calls of the client: what they raise comes out as one of ours. A fatal error is raised by whichever
        call hears of it first, and holds from then on. Costs a microsecond."""
        try:
            yield
        except KafkaException as error:
            inner = of(error)
            if is_fatal(inner):
                self._trouble(inner)
            raise self._meaning(inner, doing) from error
        except RuntimeError as error:
            raise KafkaUnavailable(f"{doing}: {error}") from error  # "Consumer closed"

    def _meaning(self, error: KafkaError, doing: str) -> KStreamError:
        """A member that stood still (the process was stopped, the machine slept) loses its place; joining again, it may
        be fenced by a heartbeat of its own that was still under way. Whoever took its place has another name."""
        if is_fenced(error) and (still := self._pulse.stood_still()) is not None:
            return KafkaUnavailable(
                f"this process stood still for {still:.0f} s, longer than its session, and has lost its place in the"
                f" group; it has to start over ({doing}: {describe(error)})"
            )
        return meaning(error, doing, self._servers, f"READ group {self._group}")

    # ---- the group. Nothing may be raised from a callback: it would destroy the batch, and librdkafka would go on
    # with an assignment of its own making.

    def _on_assign(self, consumer: confluent_kafka.Consumer, found: list[confluent_kafka.TopicPartition]) -> None:
        partitions = tuple(TopicPartition(each.topic, each.partition) for each in found)
        starts: Mapping[TopicPartition, int] = {}

        def ask(listener: RebalanceListener) -> None:
            nonlocal starts
            starts = listener.assigned(partitions)
            if starts.keys() != set(partitions):
                raise ValueError(f"assigned {partitions} but was told to start {tuple(starts)}")

        self._tell(ask)
        if starts.keys() == set(partitions):
            self._fresh = dict(absolute(self._consumer, self._trouble, starts))
            found = client_positions(in_the_log(self._consumer, self._trouble, self._fresh))
        # Else the listener failed: assigned all the same, paused, so that nothing is read.
        consumer.assign(found)
        consumer.pause(found)
        self._joins(False)

    def _on_revoke(self, consumer: confluent_kafka.Consumer, found: list[confluent_kafka.TopicPartition]) -> None:
        partitions = tuple(TopicPartition(each.topic, each.partition) for each in found)
        if partitions:
            self._tell(lambda listener: listener.revoked(partitions))
        consumer.unassign()
        self._joins(True)

    def _on_lost(self, consumer: confluent_kafka.Consumer, found: list[confluent_kafka.TopicPartition]) -> None:
        partitions = tuple(TopicPartition(each.topic, each.partition) for each in found)
        if partitions:
            self._tell(lambda listener: listener.lost(partitions))
        consumer.unassign()
        self._joins(True)

    def _joins(self, joins: bool) -> None:
        if self._waking is not None:
            self._waking.joining = joins

    def _tell(self, tell: Callable[[RebalanceListener], None]) -> None:
        self._rebalanced = True
        self._fresh = {}
        if self._listener is None:
            return
        try:
            tell(self._listener)
        except BaseException as error:
            if self._raised is None:
                self._raised = error

    def group_metadata(self) -> object:
        """Of the assignment now in force: take it when work on that begins, not when it ends."""
        with self._errors("metadata of the group"):
            return self._consumer.consumer_group_metadata()

    def commit(self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]) -> None:
        """Commits offsets without a transaction, and waits for it (30 seconds at most).

        Raises:
            AbortRequired: the partitions have another owner: their work is to be forgotten.
            InstanceFenced, KafkaUnavailable.
        """
        if not offsets:
            return
        wanted = client_positions(offsets, metadata)
        deadline = time.monotonic() + COMMIT_SECONDS
        while True:
            error = self._commit(wanted)
            if error is None:
                return
            if error.code() in NOT_OWNER:
                raise AbortRequired(f"offsets were not committed, the group has rebalanced since: {describe(error)}")
            again = error.retriable() or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
            if not again or time.monotonic() > deadline:
                raise self._meaning(error, "commit of offsets")
            time.sleep(0.1)

    def _commit(self, offsets: list[confluent_kafka.TopicPartition]) -> KafkaError | None:
        try:
            done = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            return of(error)
        except RuntimeError as error:
            raise KafkaUnavailable(f"commit of offsets: {error}") from error
        return next((each.error for each in done if each.error is not None), None)

    # ---- positions

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Costly: it throws away what was prefetched of them. Those that are not assigned are passed over."""
        self._each(self._consumer.pause, partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """They go on after the last record delivered, or where `seek` said meanwhile.

        The first time after an assignment they are sought to their start. `assign` lets a fetch slip out before
        `pause`; if the broker answers that the position is not in the log (and auto_offset_reset is "error"), `pause`
        throws that answer away, and the partition would be dead without a word.

        Raises as `seek`.
        """
        fresh = {at: self._fresh[at] for at in partitions if at in self._fresh}
        self.seek(fresh)
        self._each(self._consumer.resume, partitions)
        self._wake(partitions)

    def _wake(self, partitions: Sequence[TopicPartition]) -> None:
        """Makes librdkafka fetch at once what was resumed. Its thread for a broker sleeps for up to a second when it
        has nothing to do, and `resume` does not wake it: 0.3 to 0.9 s until an idle consumer's first record, which each
        rebalance would cost everybody. A question to the leaders wakes it (5 ms); the answer is not waited for."""
        if partitions:
            try:
                self._consumer.offsets_for_times(client_positions(dict.fromkeys(partitions, BEGINNING)), timeout=0.001)
            except KafkaException as error:
                if of(error).code() != KafkaError._TIMED_OUT:
                    self._trouble.note(of(error))

    def _each(self, do: Callable[[list[Any]], None], partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            with self._errors("pause or resume"):
                do(list(map(client_partition, partitions)))

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The next records come from these offsets, of paused partitions once they are resumed.

        What was prefetched from elsewhere never arrives: librdkafka stamps every fetch with the version of its
        position and drops older ones (held to it by a test). Waits until librdkafka has taken up an assignment, 5
        seconds at most; so it cannot be called inside `RebalanceListener.assigned`.

        Raises:
            RuntimeError: a partition is not assigned.
            TopicError: librdkafka has stopped reading it, as it does with auto_offset_reset "error".
            KafkaUnavailable: it did not succeed in time.
        """
        deadline = time.monotonic() + SEEK_SECONDS
        for at, offset in positions.items():
            while True:
                try:
                    self._consumer.seek(confluent_kafka.TopicPartition(at.topic, at.partition, offset))
                    self._fresh.pop(at, None)
                    self._later = None if self._later_of == at else self._later
                    break
                except RuntimeError as error:
                    raise KafkaUnavailable(f"{at}: cannot go to offset {offset}: {error}") from error
                except KafkaException as error:
                    problem = of(error)
                    with self._errors("assignment"):
                        assigned = {(each.topic, each.partition) for each in self._consumer.assignment()}
                    if at not in assigned:
                        raise RuntimeError(f"{at} is not assigned, so there is nothing to seek") from None
                    if problem.code() == KafkaError._STATE and time.monotonic() > deadline:
                        raise TopicError(
                            f"{at}: reading has stopped, its position is no longer in the log: set auto_offset_reset "
                            "to earliest or latest, or reset the group's offsets",
                            at.topic,
                        ) from None
                    if problem.code() not in SEEK_AGAIN or time.monotonic() > deadline:
                        raise KafkaUnavailable(f"{at}: cannot go to offset {offset}: {describe(problem)}") from None
                time.sleep(0.005)

    def high_watermark(self, at: TopicPartition) -> int | None:
        """The partition's end as last heard from the broker; None when not heard yet. No I/O."""
        try:
            found = self._consumer.get_watermark_offsets(client_partition(at), cached=True)
        except (KafkaException, RuntimeError):  # RuntimeError: it is closed
            return None
        return found[1] if found[1] >= 0 else None

    def close(self) -> None:
        """Leaves without telling the listener. A static member keeps its place until its session ends. Idempotent."""
        self._listener = None
        try:
            self._consumer.close()
        except RuntimeError:  # closed already
            return
        except KafkaException as error:
            self._trouble.note(of(error))
