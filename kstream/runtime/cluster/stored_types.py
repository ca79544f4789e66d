"""The types that an app's stores were written with, so that a start can refuse a type that does not read them.

They lie in the compacted topic `<app>-store-types`, one record for each type that a store has ever had: entries are not
written anew when the type changes, so each of them may still be in the state. It is read at the start, before any task
runs, on a machine that has no local state too (docs/decisions/0019-types-that-change.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

import msgspec

from kstream.codecs.evolution import misread
from kstream.codecs.shapes import Shape, shape_of
from kstream.errors import KStreamError, StoredTypeChanged
from kstream.runtime.cluster.records import TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.topics import WantedTopic, ensure_topics
from kstream.runtime.cluster.writing import write_record
from kstream.specs.layout import reads
from kstream.specs.names import own_topic
from kstream.specs.store import StoreSpec
from kstream.specs.stored import TYPES
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, Clock, TopicPartition

log = logging.getLogger(__name__)

_UNREAD: Final = Shape("unread")
"""What a record of a later form says of types: nothing that this version reads."""


class StoredType(msgspec.Struct, frozen=True, omit_defaults=True):
    """Types of key and value that a store has had.

    Attributes:
        store: its name.
        changelog: the id of its changelog topic: one that is made anew begins without entries. None where brokers give
            no ids.
        at: when an app first started with them, ms since the epoch.
        layout: of the store (specs/layout.py); "": it has none, or an older version wrote this.
        v: the number of this form, and of what has to be known to read the store's entries. One that is later is kept
            by its number alone. It is not written where it is 1.
    """

    store: str
    key: Shape
    value: Shape
    changelog: str | None = None
    at: int = 0
    v: int = 1
    layout: str = ""

    @property
    def name(self) -> bytes:
        """The key of its record: another for other types, and another layout."""
        laid = f":{self.layout}" if self.layout else ""
        return f"{self.store}:{self.key.digest}:{self.value.digest}:{self.changelog or ''}{laid}".encode()


class _Form(msgspec.Struct):
    """What any version may have written."""

    store: str
    v: int = 1
    changelog: str | None = None


def topic_of(app: str) -> str:
    return own_topic(app, "store-types")


def wanted_topics(topology: Topology) -> list[WantedTopic]:
    """The topic, where the app has a store."""
    stores = any(part.stores for part in topology.parts)
    return [WantedTopic(topic_of(topology.app), "types", partitions=1, owner=topology.app)] if stores else []


def check_types(
    topology: Topology, clients: Clients, admin: AdminClient, clock: Clock, *, replication: int, go_on: bool
) -> None:
    """Refuses types that cannot read what their stores were written with, and keeps those that are new.

    A user who may not read or write the topic is told so, and the app starts: what cannot be read then fails at its
    record.

    Args:
        replication: of the topic, where it is made.
        go_on: types that do not fit are told and not refused, and what the stores had before is forgotten.

    Raises:
        StoredTypeChanged: one line for each store, with the old type, the new one, and what does not fit.
    """
    stores = _stores_of(topology)
    if not stores:
        return
    try:
        _check(topology, stores, clients, admin, clock, replication, go_on)
    except StoredTypeChanged:
        raise
    except KStreamError as error:
        log.warning(
            "the types that stores were written with cannot be compared, or not be kept: %s; an entry that cannot be "
            "read fails at its record", error,
        )  # fmt: skip


def types_of(topology: Topology, clients: Clients, admin: AdminClient) -> list[StoredType]:
    """Those that the app's stores have had, as far as they were kept.

    Raises:
        KafkaUnavailable, TopicError.
        StoredTypeChanged: a later version of kstream wrote one.
    """
    had = _types_of(topology, clients, admin)
    for one in had:
        if refusal := TYPES.refusal(f"store {one.store!r}", one.v):
            raise StoredTypeChanged(refusal)
    return had


def _types_of(topology: Topology, clients: Clients, admin: AdminClient) -> list[StoredType]:
    if topic_of(topology.app) not in admin.topics(TIMEOUT):
        return []
    kept = read_types(clients, admin, topic_of(topology.app))
    now = _types_now(topology, admin, _stores_of(topology), 0)
    return [one for one in kept.values() if one.store in now and _same_changelog(one, now[one.store])]


def refuse_misfits(topology: Topology, admin: AdminClient, had: Sequence[StoredType]) -> None:
    """Raises StoredTypeChanged where the app's stores cannot read entries of these types."""
    stores = _stores_of(topology)
    now = _types_now(topology, admin, stores, 0)
    if misfits := dict(_misfits(stores, now, {one.name: one for one in had})):
        raise StoredTypeChanged("; ".join(misfits.values()))


def misfits_of(topology: Topology, clients: Clients, admin: AdminClient) -> list[str]:
    """What a start would refuse, one line for each store. Nothing is written.

    Raises:
        KafkaUnavailable, TopicError.
    """
    stores = _stores_of(topology)
    had = _types_of(topology, clients, admin)
    misfits = dict(_misfits(stores, _types_now(topology, admin, stores, 0), {one.name: one for one in had}))
    if misfits:
        empty = _without_entries(admin, {store.name: topology.changelog(store) for store in stores})
        return [line for store, line in misfits.items() if store not in empty]
    return []


def keep_types(topology: Topology, clients: Clients, admin: AdminClient, had: Sequence[StoredType], at: int) -> None:
    """Stores whose changelogs were made anew have entries of these types.

    Args:
        at: ms since the epoch.
    """
    if not had:
        return
    ensure_topics(admin, wanted_topics(topology), auto_create=True)
    now = _types_now(topology, admin, _stores_of(topology), at)
    new = [msgspec.structs.replace(one, changelog=now[one.store].changelog, at=at) for one in had]
    _write(clients, topic_of(topology.app), {one.name: one for one in new})


def _stores_of(topology: Topology) -> list[StoreSpec]:
    return list(dict.fromkeys(store for part in topology.parts for store in part.stores))


def _types_now(topology: Topology, admin: AdminClient, stores: Sequence[StoreSpec], at: int) -> dict[str, StoredType]:
    changelogs = {store.name: topology.changelog(store) for store in stores}
    described = answer(lambda: admin.describe(list(changelogs.values())), "the ids of changelogs")
    return {
        store.name: StoredType(
            store.name,
            shape_of(store.key.kind),
            shape_of(store.value.kind),
            described[changelogs[store.name]].id if changelogs[store.name] in described else None,
            at,
            TYPES.number,
            store.layout,
        )
        for store in stores
    }


def _check(
    topology: Topology,
    stores: Sequence[StoreSpec],
    clients: Clients,
    admin: AdminClient,
    clock: Clock,
    replication: int,
    go_on: bool,
) -> None:
    topic = topic_of(topology.app)
    ensure_topics(admin, wanted_topics(topology), auto_create=True, replication=replication)
    kept = read_types(clients, admin, topic)
    changelogs = {store.name: topology.changelog(store) for store in stores}
    now = _types_now(topology, admin, stores, int(clock.time() * 1000))
    gone = {name: one for name, one in kept.items() if one.store in now and not _same_changelog(one, now[one.store])}
    before = {name: one for name, one in kept.items() if name not in gone}
    if go_on or any(_misfits(stores, now, before)):
        empty = _without_entries(admin, changelogs)
        gone |= {name: one for name, one in before.items() if one.store in empty}
        before = {name: one for name, one in before.items() if name not in gone}
    misfits = dict(_misfits(stores, now, before))
    if misfits and not go_on:
        raise StoredTypeChanged("; ".join(misfits.values()))
    for line in misfits.values():
        log.warning("%s (changed_types=continue)", line)
    gone |= {name: one for name, one in before.items() if one.store in misfits}
    new = {one.name: one for one in now.values() if one.name not in kept or one.name in gone}
    _write(clients, topic, {**dict.fromkeys(gone), **new})


def _same_changelog(one: StoredType, other: StoredType) -> bool:
    return one.changelog is None or other.changelog is None or one.changelog == other.changelog


def _misfits(
    stores: Sequence[StoreSpec], now: Mapping[str, StoredType], kept: Mapping[bytes, StoredType]
) -> Iterator[tuple[str, str]]:
    """What is said of each store whose types do not read all that it may hold, by its name."""
    for store in stores:
        for before in kept.values():
            if before.store != store.name:
                continue
            if refusal := TYPES.refusal(f"store {store.name!r}", before.v):
                yield store.name, refusal
            elif (why := misread(now[store.name].key, before.key, key=True, reads=_reads(store.key.kind))) is not None:
                yield store.name, _line(store, "keys", before.key, now[store.name].key, why)
            elif (why := misread(now[store.name].value, before.value, reads=_reads(store.value.kind))) is not None:
                yield store.name, _line(store, "values", before.value, now[store.name].value, why)
            elif not reads(store.layout, before.layout):
                yield (
                    store.name,
                    (
                        f"store {store.name!r} was written for {before.layout}, and is declared for "
                        f"{store.layout or 'none of that'} now, which would read its entries wrongly: take the change "
                        "back, use another name for the store (it begins empty), or reset the app (kstream reset); "
                        "changed_types=continue starts it as it is"
                    ),
                )


def _line(store: StoreSpec, side: str, old: Shape, new: Shape, why: str) -> str:
    mend = "give new fields a default, and let changed ones take the old form too" if side == "values" else (
        "keys must keep their bytes"
    )  # fmt: skip
    return (
        f"store {store.name!r} holds {side} of the type {_cut(str(old))}, and it is {_cut(str(new))} now, which cannot "
        f"read them: {why}. {mend[0].upper()}{mend[1:]}, use another name for the store, or reset the app "
        "(kstream reset); changed_types=continue starts it as it is"
    )


def _cut(text: str, longest: int = 400) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _reads(kind: object) -> frozenset[str]:
    """Versions that a codec of the user's says it reads."""
    return frozenset(map(str, getattr(kind, "reads", ()))) if not isinstance(kind, type) else frozenset()


def _without_entries(admin: AdminClient, changelogs: Mapping[str, str]) -> set[str]:
    """Stores whose changelogs have no record in any partition."""
    topics = admin.topics(TIMEOUT)
    empty = set()
    for store, topic in changelogs.items():
        at = [TopicPartition(topic, number) for number in range(topics[topic].partitions if topic in topics else 0)]
        starts, ends = bounds(admin, at) if at else ({}, {})
        if all(starts[each] >= ends[each] for each in at):
            empty.add(store)
    return empty


def read_types(clients: Clients, admin: AdminClient, topic: str) -> dict[bytes, StoredType]:
    """What is kept, by the keys of the records. What cannot be read is left out.

    Raises:
        KafkaUnavailable, TopicError.
    """
    kept: dict[bytes, StoredType] = {}
    starts, ends = bounds(admin, [TopicPartition(topic, 0)])
    if all(starts[at] >= end for at, end in ends.items()):
        return kept
    with closing(Reading(clients, admin, starts, ends)) as reading:
        for row in to_end(reading):
            name = row.key or b""
            kept.pop(name, None)
            if row.value is None:
                continue
            try:
                one = _decoded(row.value)
            except msgspec.MsgspecError as error:
                log.warning("a type that a store was written with cannot be read, and is not compared: %s", error)
            else:
                kept[name] = one
    return kept


def _decoded(value: bytes) -> StoredType:
    """Raises MsgspecError."""
    form = msgspec.json.decode(value, type=_Form)
    if form.v > TYPES.number:
        return StoredType(form.store, _UNREAD, _UNREAD, form.changelog, v=form.v)
    return msgspec.json.decode(value, type=StoredType)


def _write(clients: Clients, topic: str, types: Mapping[bytes, StoredType | None]) -> None:
    if not types:
        return
    with closing(clients.producer(None)) as producer:
        for name, one in types.items():
            write_record(producer, topic, None if one is None else msgspec.json.encode(one), name, 0)
        producer.flush(TIMEOUT)
