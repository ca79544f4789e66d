"""The control topic of an app, `<app>-control`: through it a command and all instances agree on a savepoint, and a
restore that is not complete keeps the app from starting.

It is compacted, so the latest word under each key stays. Under `savepoint` lies what the command that makes one asks
for; under `savepoint/<worker>` what each worker answers; under `restore` the note of a restore. What is asked counts
for those who listen when it is written: nobody heeds an old request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from secrets import token_hex
from typing import Final, Literal

import msgspec

from kstream.errors import ConfigError, UsageError
from kstream.runtime.cluster.records import TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.topics import WantedTopic, ensure_topics
from kstream.runtime.cluster.writing import write_record
from kstream.specs.names import own_topic
from kstream.specs.stored import CONTROL
from kstream.types import AdminClient, Clients, Fetch, ProducerClient, TopicMaker, TopicPartition

REQUEST: Final = b"savepoint"
ANSWERS: Final = b"savepoint/"
RESTORE: Final = b"restore"

LONGEST_TIMEOUT: Final = 3600.0
"""Seconds for which an instance holds its inputs at most, whatever it is asked."""


class Request(msgspec.Struct, frozen=True):
    """What is asked of all workers of an app.

    Attributes:
        id: of the savepoint; every attempt has its own.
        name: what the user calls it.
        phase: hold: take nothing more from outside, go on with the app's own topics; capture: process and commit
            nothing, copy the local state; resume: go on; stop: the savepoint is there, the instances are to stop;
            abort: there will be none, go on.
        timeout: seconds from `hold` on, after which everybody goes on by themselves.
        place: URL or directory of the savepoint's files.
        why: of an abort.
        v: the number of this form, as of all that is written here.
    """

    id: str
    name: str
    phase: Literal["hold", "capture", "resume", "stop", "abort"]
    timeout: float = 60.0
    place: str = ""
    why: str = ""
    v: int = CONTROL.number


class Offset(msgspec.Struct, frozen=True, array_like=True):
    """Of an input of a task: what it committed last, and how far it has read (what lies between are markers)."""

    topic: str
    partition: int
    committed: int
    position: int
    metadata: str = ""


class TaskPart(msgspec.Struct, frozen=True):
    """What a worker says of one of its tasks.

    Attributes:
        quiet: it has nothing more to do, and all it did is committed.
        stored: the file that says which files its state is in, in the savepoint's place, once they are there. None: it
            has no state.
    """

    quiet: bool = False
    offsets: list[Offset] = []
    stored: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """Where a worker is. `why` says why it refuses."""

    id: str
    worker: str
    phase: Literal["holding", "captured", "stored", "refused"]
    tasks: dict[str, TaskPart] = {}
    why: str = ""
    v: int = CONTROL.number


class Unread(msgspec.Struct, frozen=True):
    """A word of a later form. What is read of it says to whom it is; `why` says that it cannot be read.

    Attributes:
        worker: who says it; None: who asks.
    """

    v: int = 1
    id: str = ""
    phase: str = ""
    worker: str | None = None
    why: str = ""


class Rescaling(msgspec.Struct, frozen=True):
    """What goes on when `kstream rescale` is run again.

    Attributes:
        savepoint, place: with which one.
        partitions, parts: how many, and of which sub-topologies.
        changing: the app's topics are being made anew. Until then it is only kept from starting.
    """

    savepoint: str
    place: str
    partitions: int
    parts: list[str]
    changing: bool = False


class RestoreNote(msgspec.Struct, frozen=True):
    """The state of the app is being replaced, since `at` (seconds since the epoch), and that is not complete.

    Attributes:
        by: which command does it, without its arguments.
        what: of what: a savepoint and its place, or files; `stores` that are replaced, where these are not all.
        rescaling: where the number of partitions changes.
        token: of one run of the command: nobody else's note has it.
    """

    by: str
    what: str
    at: float
    stores: list[str] = []
    rescaling: Rescaling | None = None
    token: str = msgspec.field(default_factory=lambda: token_hex(8))
    v: int = CONTROL.number


_encode = msgspec.json.Encoder().encode
_request = msgspec.json.Decoder(Request).decode
_answer = msgspec.json.Decoder(Answer).decode
_note = msgspec.json.Decoder(RestoreNote).decode
_unread = msgspec.json.Decoder(Unread).decode


def topic_of(app: str) -> str:
    return own_topic(app, "control")


def wanted_topic(app: str) -> WantedTopic:
    small = {"segment.bytes": str(1 << 20), "min.cleanable.dirty.ratio": "0.2"}
    return WantedTopic(topic_of(app), "control", partitions=1, config=small, owner=app)


def ensure_topic(admin: TopicMaker, app: str, replication: int) -> None:
    """Makes the control topic where there is none.

    Raises:
        TopicError: there is one that is not compacted, or this user may not make it.
    """
    ensure_topics(admin, [wanted_topic(app)], auto_create=True, replication=replication)


class Control:
    """Writes to the control topic and reads what is new there. One thread at a time.

    Args:
        after: the `position` of a connection that was lost: it goes on there. None: at the end.

    Attributes:
        position: the offset of what is read next.

    Raises: KStreamError, as its clients do.
    """

    def __init__(self, clients: Clients, admin: AdminClient, app: str, after: int | None = None) -> None:
        self._topic, self._clients = topic_of(app), clients
        at = TopicPartition(self._topic, 0)
        end = admin.end_offsets([at]).result(TIMEOUT)[at]
        self.position = end if after is None else min(after, end)  # a topic that was made anew is shorter
        self._reader = clients.reader()
        self._reader.assign({at: self.position})
        self._producer: ProducerClient | None = None

    def read(self, timeout: float) -> Iterator[Request | Answer | Unread]:
        """What was written since the last call; waits `timeout` seconds for a first word. What is none is passed
        over."""
        for fetch in self._reader.poll(1000, timeout).fetches:
            self.position = fetch.last_offset + 1
            yield from _said(fetch)

    def write(self, said: Request | Answer | RestoreNote) -> None:
        """It is there when this returns."""
        if isinstance(said, Answer):
            key = ANSWERS + said.worker.encode()
        else:
            key = REQUEST if isinstance(said, Request) else RESTORE
        self._write(key, _encode(said))

    def forget_restore(self) -> None:
        """The restore is complete: the app may start."""
        self._write(RESTORE, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        if self._producer is None:
            self._producer = self._clients.producer(None)
        write_record(self._producer, self._topic, value, key, 0)
        self._producer.flush(TIMEOUT)

    def close(self) -> None:
        self._reader.close()
        if self._producer is not None:
            self._producer.close()


def _said(fetch: Fetch) -> Iterator[Request | Answer | Unread]:
    for key, value in zip(fetch.keys(), fetch.values(), strict=True):
        if key is None or value is None:
            continue
        try:
            if (unread := _of_later(value, fetch.at)) is not None:
                yield unread
            elif key == REQUEST:
                yield _request(value)
            elif key.startswith(ANSWERS):
                yield _answer(value)
        except msgspec.MsgspecError:
            continue


def _of_later(value: bytes, at: TopicPartition) -> Unread | None:
    """What can be read of a word of a later form; None of others. Raises MsgspecError where it is no word."""
    found = _unread(value)
    why = CONTROL.refusal(f"topic {at.topic}", found.v)
    return None if why is None else msgspec.structs.replace(found, why=why)


def unfinished_restore(clients: Clients, admin: AdminClient, app: str) -> RestoreNote | None:
    """The restore that has begun and is not complete; None where there is none.

    Raises:
        UsageError: a later version of kstream does it.
    """
    at = TopicPartition(topic_of(app), 0)
    if at.topic not in admin.topics(TIMEOUT):
        return None
    found: bytes | None = None
    starts, ends = bounds(admin, [at])
    if starts[at] < ends[at]:
        with closing(Reading(clients, admin, starts, ends)) as reading:
            for row in to_end(reading):
                if row.key == RESTORE:
                    found = row.value
    try:
        if found is not None and (unread := _of_later(found, at)) is not None:
            raise UsageError(f"the state of app {app} is being replaced, and that is not complete: {unread.why}")
        return None if found is None else _note(found)
    except msgspec.MsgspecError:
        return RestoreNote("kstream", "what another version has", 0.0)


def check_own(clients: Clients, admin: AdminClient, app: str, note: RestoreNote) -> None:
    """Raises UsageError where the note is not this run's any more: what another run does now must not be told as
    complete, and the app must not start on it."""
    found = unfinished_restore(clients, admin, app)
    if found is None or found.token != note.token:
        other = "another command has ended it" if found is None else f"{found.by} replaces it by that of {found.what}"
        raise UsageError(
            f"the state of app {app} is not this command's any more: {other}, at the same time; this one stops here. "
            "Wait until the other is through, and run it again if it was broken off"
        )


def refuse_unfinished_restore(clients: Clients, admin: AdminClient, app: str) -> None:
    """Raises ConfigError where the app has the state of a restore that is not complete."""
    note = unfinished_restore(clients, admin, app)
    if note is not None and note.rescaling is not None and not note.rescaling.changing:
        raise ConfigError(
            f"app {app} is about to be given the state of {note.what}: it starts when that is done; if {note.by} was "
            "broken off, run it again"
        )
    if note is not None:
        raise ConfigError(
            f"app {app} is being given the state of {note.what}, and that is not complete: what it has is neither the "
            f"old state nor the new; run the same {note.by} again, or reset the app"
        )
