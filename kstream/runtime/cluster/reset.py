"""An app made to begin anew: its committed offsets, its state, its repartition and its delay topics are deleted.

In this order, so that a reset that is broken off never leaves offsets without the state that belongs to them (what was
counted would be forgotten): offsets first, then local state, then the topics. State without offsets stops the app's
tasks at their next start, and the reset can be repeated.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kstream.errors import ConfigError
from kstream.runtime.cluster import control, stored_types
from kstream.runtime.cluster.naming import consumer_group, whole_name
from kstream.runtime.cluster.regroup import answer
from kstream.topology import Topology
from kstream.types import AdminClient, TopicPartition

TIMEOUT = 30.0

Place = Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset would do.

    Attributes:
        groups: consumer groups whose offsets go, and the user's inputs that each of them reads.
        topics: changelogs, repartition and delay topics that there are, and that of the types of stores.
        directories: local state on this machine.
    """

    groups: Mapping[str, tuple[str, ...]]
    topics: tuple[str, ...]
    directories: tuple[Path, ...]


def look(topology: Topology, admin: AdminClient, state_dir: Path) -> Reset:
    """Finds what there is. Changes nothing.

    Raises:
        ConfigError: a group has members, so the app still runs somewhere.
        KafkaUnavailable: the cluster does not answer.
    """
    there = admin.topics(TIMEOUT)
    groups: dict[str, tuple[str, ...]] = {}
    for isolation in topology.groups:
        parts = topology.of_group(isolation).parts
        read = [source.topic for part in parts for source in part.sources]
        group = consumer_group(topology.app, isolation)
        groups[group] = tuple(dict.fromkeys(each.name for each in read if not each.internal and each.name in there))
        if members := answer(lambda group=group: admin.members(group), f"the members of group {group}"):  # type: ignore[misc]
            raise ConfigError(
                f"group {group} has {len(members)} member{'' if len(members) == 1 else 's'}: stop all instances of "
                f"{topology.app} first (one that was killed, or has a name and on_stop=stay, is a member until its "
                "session_timeout is over: then try again)"
            )
    internal = [topology.changelog(store) for part in topology.parts for store in part.stores]
    internal += [topic.name for part in topology.parts for topic in part.sinks if topic.internal]
    internal += [delay.topic for part in topology.parts for delay in part.delays]
    internal.append(stored_types.topic_of(topology.app))
    internal.append(control.topic_of(topology.app))  # with the note of a restore that is not complete
    topics = tuple(name for name in dict.fromkeys(internal) if name in there)
    return Reset(groups, topics, _directories(topology.app, state_dir))


def _directories(app: str, state_dir: Path) -> tuple[Path, ...]:
    """Of the app's workers, in a state directory that is the app's."""
    owner = state_dir / "app"
    if not owner.is_file() or owner.read_text().strip() != app:
        return ()
    found = (each for each in state_dir.iterdir() if each.is_dir() and not each.is_symlink())
    return tuple(sorted(each for each in found if whole_name(each).startswith(f"{app}-")))


def carry_out(found: Reset, admin: AdminClient, to: Place | None) -> None:
    """Does what `look` has found.

    Args:
        to: where the inputs are read from next; None: where `auto_offset_reset` says.

    Raises:
        KafkaUnavailable: the cluster does not answer, or a group has members again. What was done stays done.
    """
    for group in found.groups:
        admin.delete_group(group).result(TIMEOUT)
    for directory in found.directories:
        shutil.rmtree(directory)
    admin.delete_topics(found.topics, TIMEOUT)
    if to is None:
        return
    counts = admin.topics(TIMEOUT)
    for group, inputs in found.groups.items():
        at = [TopicPartition(name, number) for name in inputs for number in range(counts[name].partitions)]
        bounds = admin.start_offsets(at) if to == "earliest" else admin.end_offsets(at)
        if at:
            admin.set_committed(group, {each: (offset, "") for each, offset in bounds.result(TIMEOUT).items()}).result(
                TIMEOUT
            )
