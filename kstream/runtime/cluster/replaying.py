"""Dead letters are handled: replayed to where their records came from, or purged. Exactly once, whatever is killed.

What is written for a letter (its record, when it is replayed, and its mark) is one Kafka transaction, and all of it is
done by one producer, `<app>-dlq`:

1. `init_transactions`: whoever had the name before is fenced, what it left open is aborted, what it was committing is
   committed. So no mark changes from here on but by us.
2. All marks are read, committed ones only.
3. Letters that have none are written, some hundred in a transaction: record, mark.

Killed before the commit, nothing of a transaction was; after it, the next run finds the marks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NoReturn

from kstream.errors import (
    AbortRequired,
    InstanceFenced,
    KafkaUnavailable,
    KStreamError,
    ProducerLost,
    RecordRefused,
    TransactionError,
    UsageError,
)
from kstream.runtime.cluster.dead_letters import (
    REPLAYED,
    REPLAYS,
    Filter,
    Letter,
    Place,
    Progress,
    Span,
    no_progress,
    scan,
    span_of,
)
from kstream.runtime.cluster.handled import Handled, What, ensure_topic, key_of, mark_of, read_handled
from kstream.runtime.cluster.records import TIMEOUT
from kstream.runtime.cluster.routes import Routes
from kstream.runtime.cluster.writing import ROOM_SECONDS, write_record
from kstream.specs.policy import marks_topic
from kstream.types import AdminClient, Clients, ProducerClient, TopicPartition

BATCH: Final = 500
"""Letters in a transaction."""
BATCH_BYTES: Final = 1 << 20
"""Of records in a transaction; one may be larger."""
TRIES: Final = 3
"""Of a transaction of one letter that must be aborted for no fault of the letter's."""
SECONDS: Final = 30.0
"""For a call of the producer's."""
FORGET: Final = 1000
"""Marks that are taken away in a transaction."""


def transactional_id(app: str) -> str:
    return f"{app}-dlq"


@dataclass(frozen=True, slots=True)
class Entry:
    """A letter that is to be handled. `to` is where its record is written; None: nowhere, it is only marked."""

    letter: Letter
    span: Span
    what: What
    to: TopicPartition | None = None
    topic: str | None = None
    """What the mark names: `to`'s topic, also where another letter has brought the record there already."""
    topic_id: str | None = None


@dataclass(slots=True)
class Outcome:
    """What was done.

    Attributes:
        replayed: records that were written, by topic.
        again: letters about records that were replayed with another letter; they are marked, nothing is written.
        purged: letters that were marked as purged.
        before: letters that were handled before.
        left: letters that were wanted and are not handled, by the reason why.
    """

    replayed: Counter[str] = field(default_factory=Counter)
    again: int = 0
    purged: int = 0
    before: int = 0
    left: dict[str, list[Place]] = field(default_factory=dict)

    def leave(self, place: Place, why: str) -> None:
        self.left.setdefault(why, []).append(place)


class Handling:
    """The one that handles letters of an app, from `start` on, until another one takes over."""

    def __init__(self, clients: Clients, admin: AdminClient, app: str, clock: Callable[[], float] = time.time) -> None:
        self._clients, self._admin, self._app, self._clock = clients, admin, app, clock
        self._producer: ProducerClient | None = None
        self.handled = Handled()
        self.outcome = Outcome()

    def start(self, replication: int = -1, on_progress: Progress = no_progress) -> None:
        """Takes over and reads the marks.

        Args:
            replication: of the topic of marks, when it is made; -1 is the cluster's default.

        Raises:
            TopicError: it cannot be made, or does not fit. KafkaUnavailable: no answer in time.
        """
        ensure_topic(self._admin, self._app, replication)
        self._producer = self._clients.producer(transactional_id(self._app))
        try:
            self._producer.init_transactions(SECONDS)
        except TransactionError as error:
            self._give_up(error)
        self.handled = read_handled(self._clients, self._admin, self._app, on_progress)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()

    # ---- what is done

    def replay(self, letters: Iterable[tuple[Span, Letter]], routes: Routes) -> Outcome:
        """Writes the records of the letters that are not handled yet.

        Raises:
            UsageError: another one has taken over. KafkaUnavailable: Kafka is away, or denies access. What was written
                before stays written, and is not written again.
        """
        batch: list[Entry] = []
        records: set[tuple[str, str]] = set()
        size = 0
        for span, letter in letters:
            record = (str(letter.source), letter.digest)
            if record in records or len(batch) >= BATCH or size >= BATCH_BYTES:
                self._write(batch)
                batch, records, size = [], set(), 0
            size += len(letter.row.key or b"") + len(letter.row.value or b"")
            to = routes.of(letter)
            if self.handled.of(letter, span) is not None:
                self.outcome.before += 1
            elif isinstance(to, str):
                self.outcome.leave(letter.place, to)
            elif self.handled.was_replayed(letter, to.topic, topic_id := routes.ids.get(to.topic)):
                batch.append(Entry(letter, span, "replayed", None, to.topic, topic_id))
            else:
                batch.append(Entry(letter, span, "replayed", to, to.topic, topic_id))
                records.add(record)
        self._write(batch)
        return self.outcome

    def purge(self, letters: Iterable[tuple[Span, Letter]]) -> Outcome:
        """Marks the letters that are not handled yet. Raises as `replay`."""
        batch: list[Entry] = []
        for span, letter in letters:
            if self.handled.of(letter, span) is not None:
                self.outcome.before += 1
                continue
            if letter.refusal is not None:
                self.outcome.leave(letter.place, letter.refusal)
                continue
            batch.append(Entry(letter, span, "purged"))
            if len(batch) >= BATCH:
                self._write(batch)
                batch = []
        self._write(batch)
        return self.outcome

    def delete_handled(
        self, span: Span, wanted: Filter, on_progress: Progress = no_progress
    ) -> dict[TopicPartition, int]:
        """Deletes the letters before the first one of each partition that is not handled, then the marks of letters
        that are gone. Returns up to where it deleted.

        Raises:
            KStreamError: Kafka refuses to delete records (a topic that is only compacted), or is away.
        """
        before = self._handled_to(span, wanted, on_progress)
        if before:
            try:
                self._admin.delete_records(before).result(TIMEOUT)
            except TimeoutError:
                raise KafkaUnavailable(f"records of {span.topic} were not deleted in time: run it again") from None
        gone = list(self.handled.obsolete(span_of(self._admin, span.topic)))
        for start in range(0, len(gone), FORGET):
            self._forget(gone[start : start + FORGET])
        return before

    def _handled_to(self, span: Span, wanted: Filter, on_progress: Progress) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        stopped: set[TopicPartition] = set()
        with closing(scan(self._clients, self._admin, span, None, on_progress)) as letters:
            for letter in letters:
                at = letter.row.at
                if at in stopped:
                    continue
                if wanted.is_ours(letter) and self.handled.of(letter, span) is not None:
                    found[at] = letter.row.offset + 1
                else:
                    stopped.add(at)
                    if len(stopped) == len(span.starts):
                        break
        return found

    # ---- transactions

    def _write(self, batch: Sequence[Entry]) -> None:
        """One transaction. Where a record is refused, one for each letter, and those at fault are left."""
        if not batch:
            return
        producer = self._begin()
        try:
            for entry in batch:
                self._produce(entry)
            producer.commit(SECONDS)
        except (AbortRequired, RecordRefused) as error:
            self._abort(error)
            for entry in batch:
                self._write_alone(entry)
            return
        except TransactionError as error:
            self._give_up(error)
        for entry in batch:
            self._count(entry)

    def _begin(self) -> ProducerClient:
        producer = self._use()
        try:
            producer.begin()
        except TransactionError as error:
            self._give_up(error)
        return producer

    def _write_alone(self, entry: Entry) -> None:
        """The same of one letter, whose refusal is told."""
        refused: list[RecordRefused] = []
        for left in reversed(range(TRIES)):
            producer = self._begin()
            try:
                self._produce(entry, refused)
                producer.flush(SECONDS)
                producer.commit(SECONDS)
            except RecordRefused as error:
                self._abort(error)
                self.outcome.leave(entry.letter.place, str(error))
                return
            except AbortRequired as error:
                self._abort(error)
                if refused:
                    self.outcome.leave(entry.letter.place, str(refused[0]))
                    return
                if not left:
                    self._give_up(error)
            except TransactionError as error:
                self._give_up(error)
            else:
                self._count(entry)
                return

    def _produce(self, entry: Entry, refused: list[RecordRefused] | None = None) -> None:
        """The record, if there is one to be written, and the mark. With `refused`, why the record is refused is put
        there."""
        letter, to = entry.letter, entry.to
        row = letter.row

        def told(_: int | None, why: RecordRefused | None) -> None:
            if why is not None and refused is not None:
                refused.append(why)

        if to is not None:
            headers = headers_of(letter)
            self._send(
                to.topic,
                row.value,
                row.key,
                to.partition,
                row.timestamp,
                headers,
                told if refused is not None else None,
            )
        mark = self._mark_of(entry)
        self._send(marks_topic(self._app), mark, key_of(letter.place), 0, 0, None, None)

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp: int,
        headers: list[tuple[str, bytes | None]] | None,
        told: Callable[[int | None, RecordRefused | None], None] | None,
    ) -> None:
        producer = self._use()
        if told is None:
            write_record(producer, topic, value, key, partition, timestamp, headers)
            return
        while True:
            try:
                return producer.produce_watched(topic, value, key, partition, told, timestamp, headers)
            except BufferError:
                producer.poll(ROOM_SECONDS)

    def _forget(self, places: Sequence[Place]) -> None:
        producer = self._begin()
        try:
            for place in places:
                self._send(marks_topic(self._app), None, key_of(place), 0, 0, None, None)
            producer.commit(SECONDS)
        except (RecordRefused, TransactionError) as error:
            self._give_up(error)
        for place in places:
            self.handled.hear(key_of(place), None)

    def _count(self, entry: Entry) -> None:
        self.handled.hear(key_of(entry.letter.place), self._mark_of(entry))
        if entry.what == "purged":
            self.outcome.purged += 1
        elif entry.to is None:
            self.outcome.again += 1
        else:
            self.outcome.replayed[entry.to.topic] += 1

    def _mark_of(self, entry: Entry) -> bytes:
        return mark_of(entry.letter, entry.span, entry.what, self._clock(), entry.topic, entry.topic_id)

    def _abort(self, cause: KStreamError) -> None:
        try:
            self._use().abort(SECONDS)
        except InstanceFenced as error:
            self._give_up(error)
        except ProducerLost:  # what was refused never reached the broker, so it knows of no transaction to abort
            self._give_up(cause)

    def _give_up(self, error: KStreamError) -> NoReturn:
        """Raises it as something that the user can mend."""
        if isinstance(error, InstanceFenced):
            raise UsageError(
                f"another kstream dlq replay or purge of {self._app} has taken over; what this one has written stays, "
                "and that one does not write it again"
            ) from error
        needs = ""
        if "TOPIC_AUTHORIZATION_FAILED" in str(error):  # of a transaction, Kafka does not say which topic
            needs = f"; this user needs WRITE of topic {marks_topic(self._app)} and of those that records go back to"
        raise KafkaUnavailable(f"{error}{needs}; run it again: what is written is not written twice") from error

    def _use(self) -> ProducerClient:
        assert self._producer is not None, "start() comes first"
        return self._producer


def headers_of(letter: Letter) -> list[tuple[str, bytes | None]]:
    """Those of the record as it was, and that it was replayed."""
    own = [(name, value) for name, value in letter.headers if name not in (REPLAYED, REPLAYS)]
    return [*own, (REPLAYED, str(letter.place).encode()), (REPLAYS, b"%d" % (letter.replays + 1))]
