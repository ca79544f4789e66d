"""Which dead letters are handled: replayed, or purged. The letters themselves cannot be changed, nor taken out one by
one, so each that is handled has a mark in the app's compacted topic `<app>-dead-letters-handled`.

A mark is written in the transaction that does what it says, by the one producer `<app>-dlq` (see replaying.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import msgspec

from kstream.errors import UsageError
from kstream.runtime.cluster.dead_letters import Letter, Place, Progress, Span, no_progress
from kstream.runtime.cluster.records import TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.topics import WantedTopic, ensure_topics
from kstream.specs.policy import marks_topic
from kstream.specs.stored import HANDLED, number_in
from kstream.types import AdminClient, Clients, TopicPartition

What = Literal["replayed", "purged"]


class Mark(msgspec.Struct):
    """That a letter is handled, as JSON under the key `topic:partition:offset` of the letter.

    Attributes:
        v: the version of this form.
        at: when, ms since the epoch.
        id: of the letter's topic: one that was deleted and made anew has other letters at the same offsets.
        to, to_id: the topic that the record was written to, if it was, and its id: what was written to one that was
            deleted since is gone with it.
        source, digest: of the record, to know it again in another letter.
    """

    v: int
    what: What
    at: int
    id: str | None = None
    to: str | None = None
    source: str | None = None
    digest: str | None = None
    to_id: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Mark).decode


def key_of(place: Place) -> bytes:
    return str(place).encode()


def mark_of(
    letter: Letter, span: Span, what: What, now: float, to: str | None = None, to_id: str | None = None
) -> bytes:
    """`now`: seconds since the epoch."""
    source = None if letter.source is None else str(letter.source)
    return _encode(Mark(HANDLED.number, what, int(now * 1000), span.id, to, source, letter.digest, to_id))


def _place(key: bytes | None) -> Place | None:
    """None for what is no key of a mark."""
    parts = (key or b"").decode("utf-8", "replace").rsplit(":", 2)
    if len(parts) != 3 or not (parts[1].isascii() and parts[1].isdigit() and parts[2].isascii() and parts[2].isdigit()):
        return None
    return Place(parts[0], int(parts[1]), int(parts[2]))


class Handled:
    """The marks of an app, as of some moment."""

    def __init__(self) -> None:
        self._marks: dict[Place, Mark] = {}
        self._replayed: dict[tuple[str, str, str], set[str | None]] = {}  # the ids of the topics

    def __len__(self) -> int:
        return len(self._marks)

    def add(self, place: Place, mark: Mark) -> None:
        self._marks[place] = mark
        if mark.what == "replayed" and mark.to and mark.source and mark.digest:
            self._replayed.setdefault((mark.source, mark.digest, mark.to), set()).add(mark.to_id)

    def hear(self, key: bytes | None, value: bytes | None) -> None:
        """A record of the topic. A mark that cannot be read counts all the same: somebody took care of the letter.

        Raises:
            UsageError: a later version of kstream wrote it, which may have meant something else.
        """
        place = _place(key)
        if place is None:
            return
        if value is None:
            self._marks.pop(place, None)
            return
        if refusal := HANDLED.refusal(f"the mark of dead letter {place}", number_in(value)):
            raise UsageError(refusal)
        try:
            self.add(place, _decode(value))
        except msgspec.MsgspecError:
            self.add(place, Mark(0, "replayed", 0))

    def of(self, letter: Letter, span: Span) -> Mark | None:
        """The letter's mark."""
        mark = self._marks.get(letter.place)
        other = mark is not None and mark.id is not None and span.id is not None and mark.id != span.id
        return None if other else mark

    def was_replayed(self, letter: Letter, to: str, to_id: str | None = None) -> bool:
        """Whether the record that the letter is about was written to this topic on account of another letter. Where an
        id is not known it is taken for the same topic.

        Several tasks that read one topic may each have one about one record; written back once, all of them read it.
        """
        if letter.source is None or letter.source.offset < 0:
            return False
        ids = self._replayed.get((str(letter.source), letter.digest, to), ())
        return bool(ids) and (to_id is None or to_id in ids or None in ids)

    def obsolete(self, span: Span) -> Iterator[Place]:
        """Marks of letters of this topic that are no longer there."""
        for place, mark in self._marks.items():
            if place.topic == span.topic and (
                place.offset < span.starts.get(place.at, 0)
                or (mark.id is not None and span.id is not None and mark.id != span.id)
            ):
                yield place


def ensure_topic(admin: AdminClient, app: str, replication: int) -> None:
    """Makes the topic of the marks where there is none.

    Raises:
        TopicError: there is one that is not compacted, or this user may not make it.
    """
    wanted = WantedTopic(marks_topic(app), "handled", partitions=1, owner=app)
    ensure_topics(admin, [wanted], auto_create=True, replication=replication)


def read_handled(
    clients: Clients, admin: AdminClient, app: str, on_progress: Progress = no_progress, newest: int | None = None
) -> Handled:
    """All marks that are committed by now; none where the topic is not there.

    It goes to the end of the log, as asked before: where a transaction is open on it, its end is waited for.

    Args:
        newest: look at so many offsets at the end only.

    Raises:
        KafkaUnavailable: that takes too long.
    """
    handled, at = Handled(), TopicPartition(marks_topic(app), 0)
    if at.topic not in admin.topics(TIMEOUT):
        return handled
    starts, ends = bounds(admin, [at])
    if newest is not None:
        starts[at] = max(starts[at], ends[at] - newest)
    if starts[at] < ends[at]:
        with closing(Reading(clients, admin, starts, ends, waits=True)) as reading:
            for row in to_end(reading, on_progress):
                handled.hear(row.key, row.value)
    return handled
