"""What the page and the API show of dead letters."""

from __future__ import annotations

import msgspec


class LetterStatus(msgspec.Struct):
    """A dead letter. What it does not say is None.

    Attributes:
        topic, partition, offset: where it lies.
        time: when its record failed, ms since the epoch.
        source: where the record lies, topic[partition] offset, or the topic; or the step whose result it is.
        message, key: cut where they are long.
        handled: "replayed" or "purged", if it is.
    """

    topic: str
    partition: int
    offset: int
    time: int
    source: str | None
    agent: str | None
    phase: str | None
    attempts: int | None
    exception: str | None
    message: str | None
    key: str
    replays: int = 0
    handled: str | None = None


class LetterDetails(msgspec.Struct):
    """One of them whole, each text cut where it is very long. `undecodable` is as in `kstream tail`."""

    letter: LetterStatus
    task: str | None
    timestamp: int
    message: str | None
    key: str
    value: str
    headers: list[tuple[str, str]]
    stacktrace: str | None
    undecodable: dict[str, str] = {}


class LetterCount(msgspec.Struct):
    topic: str
    exception: str
    letters: int


class DeadLetters(msgspec.Struct):
    """The latest dead letters of an app.

    Attributes:
        topics: in which they are; none where the app has no policy that writes any.
        looked: so many letters were looked at, the latest of each partition; `more` says that there are others.
        counts: of these, those that are not handled.
        letters: the latest of these, handled ones too, the latest first.
        at: when they were read, seconds since the epoch.
    """

    topics: list[str]
    looked: int
    more: bool
    counts: list[LetterCount]
    letters: list[LetterStatus]
    at: float
