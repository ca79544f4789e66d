"""What the cluster has of an app that is not the app's any more, or does not belong together: left by a change of the
app, or of Kafka's topics and offsets behind its back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import version
from typing import Final

from kstream.cli import human
from kstream.cli.checks import Check, attempt
from kstream.cli.checks.uncounted import uncounted
from kstream.cli.operate import Subject
from kstream.errors import KafkaUnavailable, KStreamError, TopicError
from kstream.runtime.cluster.announce import read_instances
from kstream.runtime.cluster.comparing import Comparing, Left, Renamed
from kstream.runtime.cluster.control import refuse_unfinished_restore
from kstream.runtime.cluster.metadata import SET_OR_RESET
from kstream.runtime.cluster.records import looking
from kstream.specs.stored import ANNOUNCEMENTS
from kstream.topology import Topology
from kstream.types import AdminClient, Clients

SHOWN: Final = 3
"""Lines of one check: each task of an app may have the same to say."""
TIMEOUT: Final = 8.0


def kept(on: Subject, topology: Topology) -> Iterator[Check]:
    """The checks, in the order in which what they say is to be mended."""
    clients = looking(on.settings, f"{topology.app}-doctor")
    with closing(clients.admin()) as admin:
        yield attempt("restore", partial(restored, topology, clients, admin), "")
        try:
            comparing = Comparing(topology, clients, admin)
            lost: list[str] = []
            with suppress(TopicError):  # a group that this user may not look at says nothing, as at the start
                lost = uncounted(topology, admin)
            yield from compared(comparing, topology, stops=on.settings.lost_offsets == "stop", lost=lost)
        except KStreamError as error:
            yield Check("state and offsets", "unknown", " ".join(str(error).split()))
    yield attempt("running versions", lambda: running(on, topology.app), "")


def restored(topology: Topology, clients: Clients, admin: AdminClient) -> Check:
    """Whether a restore has begun and is not complete: the app does not start then."""
    try:
        refuse_unfinished_restore(clients, admin, topology.app)
    except KafkaUnavailable:
        raise
    except KStreamError as error:
        return Check("restore", "error", " ".join(str(error).split()), "the app will not start before this is mended")
    return Check("restore", "ok", "none is under way")


def compared(
    comparing: Comparing, topology: Topology, *, stops: bool = True, lost: Sequence[str] = ()
) -> Iterator[Check]:
    """Of topics that are left, stores, and offsets.

    Args:
        stops: tasks do, where offsets are lost (`lost_offsets`).
        lost: what `uncounted` says.
    """
    left = comparing.left()
    renamed = comparing.renamed(left)
    yield nobodys(left, {one.old for one in renamed})
    if any(part.stores for part in topology.parts):
        yield names(renamed, comparing.new())
    yield belongings(comparing, stops=stops, lost=lost)


def nobodys(left: Sequence[Left], renamed: set[str]) -> Check:
    """Topics that nobody of the app owns any more."""
    told = [one for one in left if one.store not in renamed]
    if not told:
        return Check("left topics", "ok", "changelogs, repartition and delay topics are all in use")
    text = "; ".join(
        f"nothing of the app uses {one.topic} (about {human.plural(one.records, 'record')})" for one in told
    )
    advice = (
        "where no older version of the app is to run again, and no other program has it whose name begins with the "
        f"app's: kafka-topics.sh --delete --topic {told[0].topic}; records in a repartition or delay topic are not "
        "processed any more"
    )
    return Check("left topics", "warning", text, advice)


def names(renamed: Sequence[Renamed], new: Sequence[str]) -> Check:
    """Stores that vanished as others appeared, and those that are new to an app that has run."""
    if renamed:
        text = "; ".join(
            f"store {one.old} is gone (about {human.plural(one.records, 'record')} in its changelog), and "
            f"{' or '.join(one.new)} is new, of the same types, and begins empty: was it renamed?"
            for one in renamed
        )
        old, to = renamed[0].old, renamed[0].new[0]
        advice = (
            f"call it {old} again (name=); or make a savepoint with the app as it was (kstream savepoint create), and "
            f"restore it into this one: kstream savepoint restore ... --rename {old}={to}"
        )
        return Check("names of stores", "warning", text, advice)
    if new:
        text = f"new, and empty at first: {', '.join(new)}; what was read before is not in it"
        return Check("names of stores", "warning", text, "kstream reset --to earliest reads it all again")
    return Check("names of stores", "ok", "no store was renamed, none begins empty behind what was read")


def belongings(comparing: Comparing, *, stops: bool, lost: Sequence[str] = ()) -> Check:
    """Offsets without their state, and state without its offsets; offsets that were lost where there is no state."""
    try:
        lines = [*comparing.torn(), *lost]
    except TopicError as error:  # a later version committed them
        return Check("state and offsets", "error", " ".join(str(error).split()), "its tasks stop at the start")
    if not lines:
        return Check("state and offsets", "ok", "what is committed and what is in changelogs belong together")
    text = "; ".join(lines[:SHOWN]) + (f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")
    if not stops:
        return Check("state and offsets", "warning", text, "its tasks go on (lost_offsets=continue)")
    return Check("state and offsets", "error", text, f"its tasks stop; {SET_OR_RESET}")


def running(on: Subject, app: str) -> Check:
    """Which versions of kstream the instances run."""
    heard = read_instances(on.clients, app, TIMEOUT)
    found = Counter(one.version or "?" for one in heard if one.state != "silent")
    # one whose word cannot be read is silent too, and says why
    later = [why for one in heard if one.state == "silent" for why in one.reasons if ANNOUNCEMENTS.name in why]
    if not found and not later:
        return Check("running versions", "ok", "no instance runs")
    own = ", ".join(f"{human.plural(count, 'instance')} of kstream {name}" for name, count in sorted(found.items()))
    text = "; ".join([own, *later] if own else later)
    if len(found) == 1 and version("kstream") in found and not later:
        return Check("running versions", "ok", text)
    here = f"this command is of {version('kstream')}"
    advice = "finish the rolling upgrade: what this command reports is by its own version"
    return Check("running versions", "warning", f"{text}; {here}", advice)
