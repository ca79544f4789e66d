"""What queries of state answer, at /state."""

from __future__ import annotations

from typing import Any

import msgspec


class Owner(msgspec.Struct):
    """Who has a partition. `url` is where its instance is asked, None where it says none; `state` is that of the task:
    only one that is running answers."""

    partition: int
    instance: str
    url: str | None
    state: str


class QueriedStore(msgspec.Struct):
    """A store that can be asked. `key` and `value` are its types; `partitions` are how many there are, `owners` those
    that somebody has."""

    name: str
    key: str
    value: str
    scope: str
    partitions: int
    owners: list[Owner]


class StateOverview(msgspec.Struct):
    """The stores of an app, and who has what of them."""

    app: str
    instance: str
    stores: list[QueriedStore]


class StateEntry(msgspec.Struct, omit_defaults=True):
    """An entry as it is committed.

    Attributes:
        key: as it stands in a URL: as JSON, bytes in the encoding that was asked for.
        value: as JSON.
        undecodable: why the value could not be decoded; then `value` is its bytes as text.
        too_large: bytes of a value that has more than are answered (4 MiB); then `value` is null.
    """

    key: Any
    value: Any
    partition: int
    undecodable: str | None = None
    too_large: int | None = None


class StateUnanswered(msgspec.Struct):
    """A key of which nobody can say now whether it is there: its partition moves, is restored, or its worker or
    instance does not answer. `why` is one line."""

    key: Any
    why: str


class StateEntries(msgspec.Struct, omit_defaults=True):
    """Entries that were asked for by key: those that are there.

    Attributes:
        partitions: those that were looked at.
        left: keys for which the answer had no room, as they were sent: ask for them again.
        unavailable: keys of which nobody can say anything now: ask for them again. What is in none of the three is not
            there.
    """

    store: str
    entries: list[StateEntry]
    partitions: list[int]
    left: list[Any] = []
    unavailable: list[StateUnanswered] = []


class StatePage(msgspec.Struct):
    """Entries of a range: a partition after the other, in each by the order of the encoded keys. `cursor` asks for what
    comes next; None: there are no more."""

    store: str
    entries: list[StateEntry]
    cursor: str | None


class StateKeys(msgspec.Struct, forbid_unknown_fields=True):
    """Keys to be looked up together, as JSON; bytes as text in the encoding."""

    keys: list[msgspec.Raw]
