"""What giving a stopped app the state of a savepoint would do, and what forbids it. Nothing is changed here
(replacing.py does that)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kstream.config import Settings
from kstream.errors import UsageError
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.prepare import check_user_topics, go_through
from kstream.runtime.cluster.records import TIMEOUT, bounds
from kstream.runtime.cluster.replacing import Committed, Plan, check_stopped
from kstream.runtime.cluster.stored_types import StoredType, refuse_misfits
from kstream.runtime.cluster.topics import INTERNAL, WantedTopic
from kstream.state.parquet import check_installed
from kstream.state.savepoint import Savepoint
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, TopicPartition


def look(
    topology: Topology,
    admin: AdminClient,
    settings: Settings,
    savepoint: Savepoint,
    *,
    rename: Mapping[str, str],
    as_app: str | None,
    allow_dropped: bool,
    rescaled: Mapping[str, int] | None = None,
) -> Plan:
    """What is to be done. Changes nothing.

    Args:
        rename: stores of the savepoint, and what the app calls them.
        as_app: the app's name, where it is not that of the savepoint: so it is meant.
        rescaled: sub-topologies that will have another number of partitions than in the savepoint, and how many
            (rescaling.py). Their inputs that are not the app's own count as if they had them.

    Raises:
        UsageError: it cannot be, and what to do. TopicError: a topic is missing or does not fit.
        ConfigError: the savepoint is in canonical form, and pyarrow is not installed.
        KafkaUnavailable: the cluster does not answer.
    """
    if savepoint.format == "canonical":
        check_installed()
    there = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
    rescaled = rescaled or {}
    _check_app(topology, savepoint, as_app)
    groups = [consumer_group(topology.app, isolation) for isolation in topology.groups]
    if savepoint.app == topology.app:
        groups += [consumer_group(topology.app, task.group) for task in savepoint.tasks]
    groups = list(dict.fromkeys(groups))
    check_stopped(topology, admin, groups)
    growing = [source.topic.name for part in topology.parts if part.name in rescaled for source in part.sources]
    check_user_topics(topology, admin, settings, but=growing)
    own = {store.name: part for part in topology.parts for store in part.stores}
    stores = _stores(own, savepoint, rename)
    dropped = tuple(old for old in savepoint.stores if old not in stores.values())
    if dropped and not allow_dropped:
        raise UsageError(
            f"the savepoint has state of {', '.join(dropped)}, which app {topology.app} does not have: --rename "
            "OLD=NEW if it is called otherwise now, --allow-dropped if it is to be given up"
        )
    partitions = _own_partitions(topology, savepoint, rescaled)
    _check_partitions(topology, there, partitions, settings, savepoint, stores, own, rescaled)
    names = {old: new for new, old in stores.items()}
    types = tuple(
        StoredType(names[one.store], one.key, one.value, layout=one.layout)
        for one in savepoint.types
        if one.store in names
    )
    if settings.changed_types != "continue":
        refuse_misfits(topology, admin, types)
    notes: list[str] = []
    for new, old in stores.items():
        notes += _changed_types(topology, new, savepoint, old)
    offsets = _offsets(topology, savepoint, stores)
    notes += _check_inputs(admin, savepoint, there, offsets)
    internal = [topology.changelog(store) for part in topology.parts for store in part.stores]
    internal += [source.topic.name for part in topology.parts for source in part.sources if source.topic.internal]
    internal += [delay.topic for part in topology.parts for delay in part.delays]
    if savepoint.app == topology.app:
        internal += [f"{topology.app}-{old}-changelog" for old in savepoint.stores]
    topics = tuple(name for name in dict.fromkeys(internal) if name in there)
    new_stores = tuple(name for name in own if name not in stores)
    return Plan(
        savepoint,
        stores,
        new_stores,
        dropped,
        offsets,
        tuple(groups),
        topics,
        _beside(topology, savepoint),
        types,
        partitions,
        notes=notes,
    )


def _own_partitions(topology: Topology, savepoint: Savepoint, rescaled: Mapping[str, int]) -> dict[str, int]:
    """Of the repartition topics, as many as they had: they may have been rescaled since they were made."""
    found: dict[str, int] = {}
    for task in savepoint.tasks:
        for one in task.own:
            name = topology.app + one.topic.removeprefix(savepoint.app)
            found[name] = max(found.get(name, 0), one.partition + 1)
    for part in topology.parts:
        if part.name in rescaled:
            found.update({source.topic.name: rescaled[part.name] for source in part.sources if source.topic.internal})
    return found


def _check_app(topology: Topology, savepoint: Savepoint, as_app: str | None) -> None:
    if as_app is not None and as_app != topology.app:
        raise UsageError(f"--as {as_app}: this app is called {topology.app}")
    if savepoint.app != topology.app and as_app is None:
        raise UsageError(
            f"the savepoint is of app {savepoint.app}, this one is {topology.app}: --as {topology.app} if that is meant"
        )


def _stores(own: Mapping[str, SubTopology], savepoint: Savepoint, rename: Mapping[str, str]) -> dict[str, str]:
    for old, new in rename.items():
        if old not in savepoint.stores:
            there = ", ".join(savepoint.stores) or "none"
            raise UsageError(f"--rename {old}={new}: the savepoint has no store {old}; it has {there}")
        if new not in own:
            raise UsageError(f"--rename {old}={new}: the app has no store {new}; it has {', '.join(own) or 'none'}")
    stores: dict[str, str] = {}
    for old in savepoint.stores:
        new = rename.get(old, old)
        if new not in own:
            continue
        if new in stores:
            raise UsageError(f"store {new} would have the state of {stores[new]} and of {old}: rename one of them")
        stores[new] = old
    return stores


def _check_partitions(
    topology: Topology,
    there: Mapping[str, int],
    partitions: Mapping[str, int],
    settings: Settings,
    savepoint: Savepoint,
    stores: Mapping[str, str],
    own: Mapping[str, SubTopology],
    rescaled: Mapping[str, int],
) -> None:
    """As the topics will be when the app's own are made anew."""
    outside = {
        source.topic.name: rescaled[part.name]
        for part in topology.parts
        for source in part.sources
        if part.name in rescaled and not source.topic.internal
    }
    there = {**there, **outside}

    def settle(wanted: list[WantedTopic]) -> dict[str, int]:
        return {
            one.name: (there.get(one.name) if one.kind not in INTERNAL else None)
            or one.partitions
            or partitions.get(one.name)
            or one.made_with
            or settings.default_partitions
            for one in wanted
        }

    counts = go_through(topology, settle, {})  # type: ignore[arg-type]  # it gives lists
    for new, old in stores.items():
        was = rescaled.get(own[new].name, savepoint.stores[old].partitions)
        will = counts[own[new].topics[0]]
        if was != will:
            topic = own[new].topics[0]
            raise UsageError(
                f"store {old} has {was} partitions in the savepoint, and would have {will}, as many as topic {topic}: "
                f"a savepoint is restored with the partitions it was made with; read a topic that has {was}, and see "
                "kstream rescale"
            )


def _changed_types(topology: Topology, new: str, savepoint: Savepoint, old: str) -> Iterator[str]:
    spec = next(store for part in topology.parts for store in part.stores if store.name == new)
    was = savepoint.stores[old]
    for side, then, now in (("key", was.key, str(spec.key)), ("value", was.value, str(spec.value))):
        if then != now:
            yield f"the {side} of store {new} was {then} and is {now}: entries must be readable as that"


def _offsets(topology: Topology, savepoint: Savepoint, stores: Mapping[str, str]) -> dict[str, Committed]:
    """Of each input of the app, by consumer group.

    A sub-topology may have moved to another isolation group. State and offsets belong together, so its stores say in
    which it was. One without state goes on where its own group was, or else where a group was that does not read the
    topic any more.

    Raises:
        UsageError: a sub-topology has the state of several that were at different offsets.
    """
    saved: dict[str, dict[str, Committed]] = {}  # by topic and isolation group
    for task in savepoint.tasks:
        for one in task.offsets:
            at = TopicPartition(one.topic, one.partition)
            saved.setdefault(one.topic, {}).setdefault(task.group, {})[at] = one.offset, one.metadata
    had = {old: task.group for task in savepoint.tasks for old in task.stores}
    read = {(part.group, source.topic.name) for part in topology.parts for source in part.sources}
    found: dict[str, Committed] = {}
    for part in topology.parts:
        own = found.setdefault(consumer_group(topology.app, part.group), {})
        were = dict.fromkeys(had[old] for one in part.stores if (old := stores.get(one.name)) in had)
        for topic in (source.topic.name for source in part.sources if not source.topic.internal):
            there = saved.get(topic, {})
            groups = [one for one in were if one in there]
            if len({tuple(sorted((at, entry[0]) for at, entry in there[one].items())) for one in groups}) > 1:
                raise UsageError(
                    f"sub-topology {part.name} would have state of isolation groups {' and '.join(groups)}, which were "
                    f"at different offsets of topic {topic}: leave its steps in the isolation groups that they were in"
                )
            if not groups:
                groups = [part.group] if part.group in there else [one for one in there if (one, topic) not in read]
            for group in groups:
                for at, entry in there[group].items():
                    if at not in own or entry[0] < own[at][0]:  # nothing is left out
                        own[at] = entry
    return found


def _beside(topology: Topology, savepoint: Savepoint) -> dict[TopicPartition, str]:
    """By the topics as this app calls them: they are named after it."""
    return {
        TopicPartition(topology.app + one.topic.removeprefix(savepoint.app), one.partition): one.metadata
        for task in savepoint.tasks
        for one in task.own
    }


def _check_inputs(
    admin: AdminClient, savepoint: Savepoint, there: Mapping[str, int], offsets: Mapping[str, Committed]
) -> Iterator[str]:
    wanted = {at: entry[0] for own in offsets.values() for at, entry in own.items()}
    names = list(dict.fromkeys(at.topic for at in wanted))
    now = admin.describe(names).result(TIMEOUT)
    for name in names:
        was = savepoint.topics[name]
        if name not in there:
            raise UsageError(f"topic {name}, which the savepoint has offsets of, does not exist, or may not be seen")
        if was.id is not None and now[name].id is not None and was.id != now[name].id:
            raise UsageError(
                f"topic {name} is not the one that the savepoint has offsets of: it was deleted and created again (its "
                f"id was {was.id}, now it is {now[name].id}), or this is another cluster"
            )
    if not wanted:
        return
    starts, _ = bounds(admin, list(wanted))
    for at, offset in wanted.items():
        if offset < starts[at]:
            yield f"{at}: {starts[at] - offset} records after the savepoint were deleted since; they are left out"
