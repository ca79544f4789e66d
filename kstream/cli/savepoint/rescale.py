"""`kstream rescale`: an app's state in another number of partitions (kstream/runtime/cluster/rescaling.py)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import agreed, place_of
from kstream.cli.table import progress
from kstream.clock import SystemClock
from kstream.errors import ConfigError, KafkaUnavailable, KStreamError, UsageError
from kstream.runtime.cluster.control import (
    Control,
    Rescaling,
    RestoreNote,
    ensure_topic,
    refuse_unfinished_restore,
    unfinished_restore,
)
from kstream.runtime.cluster.fitting import misfits
from kstream.runtime.cluster.gathering import Gathering
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import TIMEOUT, bounds
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.cluster.replacing import Plan, carry_out
from kstream.runtime.cluster.rescalable import (
    Weighed,
    check_unmoved,
    check_unread,
    committed_now,
    grow_inputs,
    weigh,
)
from kstream.runtime.cluster.rescaling import Move, Place, counts_now, counts_saved, moves_of, plan_of
from kstream.runtime.cluster.saving import Saving
from kstream.state.savepoint import Savepoint, read_savepoint, savepoints_in
from kstream.state.snapshots.storage import Storage, open_storage
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, TopicPartition

PLACES: Final[dict[str, Place]] = {"earliest": "earliest", "latest": "latest"}
STOP_SECONDS: Final = 60.0
"""For which instances that were told to stop are waited for, besides the session time-out of those that are killed."""
_OURS: Final = re.compile(r"rescale-(\d+)")


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    partitions: int
    only: Sequence[str]
    grow: bool
    inputs: Place | None
    place: str | None
    timeout: float
    dry_run: bool
    yes: bool


def run(on: Subject, wanted: Wanted) -> int:
    """The command. Killed anywhere it is run again, and goes on.

    Raises:
        UsageError: it cannot be, and why; nothing was changed.
        SavepointFailed: the app could not be stopped with a savepoint, and goes on.
    """
    assert on.app is not None
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        return Rescale(on, on.app.topology(), clients, admin, wanted).run()


def place_named(given: str | None) -> Place | None:
    """Raises ConfigError for what is none."""
    if given is not None and given not in PLACES:
        raise ConfigError(f"--inputs {given}: is neither earliest nor latest")
    return None if given is None else PLACES[given]


class Rescale:
    """One run of the command."""

    def __init__(self, on: Subject, topology: Topology, clients: Clients, admin: AdminClient, wanted: Wanted) -> None:
        self._on, self._topology, self._clients, self._admin, self._wanted = on, topology, clients, admin, wanted
        self._out = human.lines()

    def run(self) -> int:
        note = unfinished_restore(self._clients, self._admin, self._topology.app)
        if note is not None:
            return self._go_on(note)
        wanted, topics = self._wanted, self._topics()
        counts = counts_now(self._topology, topics)
        if not counts:
            raise UsageError(f"app {self._topology.app} has no state yet, and no repartition topics: nothing to move")
        moves = moves_of(self._topology, wanted.partitions, counts, topics, only=wanted.only, grow=wanted.grow)
        if not moves:
            self._out.print(Text(f"{self._topology.app} has {wanted.partitions} partitions already: nothing to do"))
            return 0
        runs = self._runs()
        if runs and (stuck := misfits(self._topology, topics)):
            raise UsageError(f"{next(iter(stuck.values()))}. Tasks of it stand still, so stop all instances first")
        for move in moves:
            offsets = committed_now(self._topology, self._admin, move.part, topics)
            self._check_unread(move, topics, offsets)
        self._show(moves, topics, runs=runs)
        if wanted.dry_run:
            return 0
        if not wanted.yes and not agreed("Move the state?"):
            return 1
        storage = place_of(self._on, wanted.place)
        name = _free_name(storage)
        note = self._note(name, storage, moves, changing=False)
        savepoint = self._stop(storage, name, note) if runs else self._gather(storage, name, note)
        return self._finish(savepoint, storage, moves)

    def _go_on(self, note: RestoreNote) -> int:
        """With the savepoint of a run that was broken off; where nothing was changed and something else is wanted now,
        or there is no such savepoint, from the beginning."""
        begun = note.rescaling
        if begun is None:
            refuse_unfinished_restore(self._clients, self._admin, self._topology.app)
            return 1
        if begun.changing and begun.partitions != self._wanted.partitions:
            raise UsageError(
                f"app {self._topology.app} is being moved to {begun.partitions} partitions, and that is not complete: "
                f"run it again with --partitions {begun.partitions} first"
            )
        self._out.print(Text(f"going on with {note.what}", style="bold"))
        if self._wanted.dry_run:
            return 0
        storage = place_of(self._on, self._wanted.place) if self._wanted.place else open_storage(begun.place)
        if not begun.changing and (
            begun.partitions != self._wanted.partitions
            or begun.savepoint not in savepoints_in(storage)
            or self._went_on(read_savepoint(storage, begun.savepoint))
        ):
            self._out.print(Text("that begins anew"))
            self._forget()
            return self.run()
        savepoint = read_savepoint(storage, begun.savepoint)
        counts, topics = counts_saved(self._topology, savepoint), self._topics()
        moves = moves_of(
            self._topology, begun.partitions, counts, topics, parts=begun.parts, grow=self._wanted.grow
        )  # fmt: skip
        return self._finish(savepoint, storage, moves, changing=begun.changing)

    def _went_on(self, savepoint: Savepoint) -> bool:
        """Whether an app that was to stop did not."""
        self._wait(self._on.settings.session_timeout)
        try:
            check_unmoved(self._topology, self._admin, savepoint)
        except KafkaUnavailable:
            raise
        except UsageError:
            return True
        return False

    # ---- what keeps the app from starting meanwhile

    def _note(self, name: str, storage: Storage, moves: Sequence[Move], *, changing: bool) -> RestoreNote:
        count = self._wanted.partitions
        parts = [move.part.name for move in moves]
        return RestoreNote(
            "kstream rescale", f"savepoint {name} ({storage.url}) in {count} partitions", time.time(),
            rescaling=Rescaling(name, storage.url, count, parts, changing),
        )  # fmt: skip

    def _write(self, note: RestoreNote) -> None:
        ensure_topic(self._admin, self._topology.app, self._on.settings.replication_factor)
        with closing(Control(self._clients, self._admin, self._topology.app)) as control:
            control.write(note)

    def _forget(self) -> None:
        with closing(Control(self._clients, self._admin, self._topology.app)) as control:
            control.forget_restore()

    # ---- the app, and what it has

    def _topics(self) -> dict[str, int]:
        return {name: info.partitions for name, info in self._admin.topics(TIMEOUT).items()}

    def _runs(self) -> bool:
        return any(self._members(group) for group in self._topology.groups)

    def _members(self, isolation: str) -> int:
        group = consumer_group(self._topology.app, isolation)
        return answer(lambda: self._admin.members(group), f"the members of group {group}")

    def _check_unread(
        self, move: Move, topics: Mapping[str, int], offsets: Mapping[TopicPartition, tuple[int, str]]
    ) -> None:
        if not move.outside:
            return
        with progress(f"what was not read of {' and '.join(move.outside)}") as told:
            check_unread(self._clients, self._admin, move, topics, offsets, told)

    def _stop(self, storage: Storage, name: str, note: RestoreNote) -> Savepoint:
        """What starts ended instances again finds that it may not: so they stay stopped."""
        settings = self._on.settings
        saving = Saving(
            self._topology, self._clients, self._admin, storage, name, timeout=self._wanted.timeout, stop=True,
            replication=settings.replication_factor, on_stage=lambda text: self._out.print(Text(f"  {text}")),
            before_stop=lambda: self._write(note),
        )  # fmt: skip
        self._out.print(Text(f"savepoint {name} of {self._topology.app}, to {storage.url}"))
        savepoint = saving.make()
        self._out.print(Text("  the instances stop"))
        if not self._wait(STOP_SECONDS + settings.session_timeout):
            self._forget()
            raise UsageError(
                f"app {self._topology.app} still has members: stop all of its instances, and run this again; nothing "
                "was changed"
            )
        return savepoint

    def _wait(self, seconds: float) -> bool:
        """Until the app has no members any more; False when it still has."""
        deadline = time.monotonic() + seconds
        while self._runs():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _gather(self, storage: Storage, name: str, note: RestoreNote) -> Savepoint:
        self._write(note)
        self._out.print(Text(f"savepoint {name} of {self._topology.app} from its changelogs, to {storage.url}"))
        try:
            with progress("entries of changelogs") as told:
                return Gathering(
                    self._topology, self._clients, self._admin, storage, name, SystemClock(),
                    on_entries=lambda entries: told(entries, 0),
                ).make()  # fmt: skip
        except KStreamError:
            self._forget()
            raise

    # ---- from the savepoint on

    def _finish(self, savepoint: Savepoint, storage: Storage, moves: Sequence[Move], *, changing: bool = False) -> int:
        """
        Args:
            changing: an earlier run has begun to change the app's topics.
        """
        settings = self._on.settings
        try:
            plan, weighed = self._looked(savepoint, storage, moves)
            if not changing:
                check_unmoved(self._topology, self._admin, savepoint)
        except KStreamError:
            if not changing:
                self._forget()
                self._out.print(
                    Text(f"the app is stopped, and as it was; savepoint {savepoint.name} is in {storage.url}")
                )
            raise
        note = self._note(savepoint.name, storage, moves, changing=True)
        total = sum(store.entries for store in weighed.values())
        with progress("entries written") as told:
            entries = carry_out(
                plan, self._topology, self._clients, self._admin, settings, storage,
                lambda done: told(done, total), note=note,
            )  # fmt: skip
        self._show_moved(plan, savepoint, weighed)
        self._out.print(
            Text(
                f"moved: {entries:,} {'entry' if entries == 1 else 'entries'}. Start the app. What it had before is in "
                f"savepoint {savepoint.name} in {storage.url}",
                style="green",
            )
        )
        return 0

    def _looked(
        self, savepoint: Savepoint, storage: Storage, moves: Sequence[Move]
    ) -> tuple[Plan, dict[str, Weighed]]:  # fmt: skip
        """All that keeps the app from being moved is found here; but for its inputs, nothing is changed."""
        topics = self._topics()
        plan = plan_of(
            self._topology, self._admin, self._on.settings, savepoint, moves, topics, inputs=self._wanted.inputs
        )  # fmt: skip
        with progress("entries looked at") as told:
            weighed = weigh(plan, self._topology, storage, moves, lambda entries: told(entries, 0))
        self._check_all_unread(plan, moves, topics)
        if grown := grow_inputs(self._admin, moves):
            for topic, count in grown.items():
                self._out.print(Text(f"  topic {topic} has {count} partitions"))
            self._check_all_unread(plan, moves, {**topics, **grown})
        return plan, weighed

    def _show_moved(self, plan: Plan, savepoint: Savepoint, weighed: Mapping[str, Weighed]) -> None:
        table = human.table("STORE", ">PARTITIONS BEFORE", ">AFTER", ">ENTRIES", ">SIZE")
        counts = self._topics()
        for store in (store for part in self._topology.parts for store in part.stores if store.name in weighed):
            was, one = savepoint.stores[plan.stores[store.name]].partitions, weighed[store.name]
            now = counts[self._topology.changelog(store)]
            table.add_row(store.name, str(was), str(now), f"{one.entries:,}", human.size(one.size))
        human.console().print(table)

    def _check_all_unread(self, plan: Plan, moves: Sequence[Move], topics: Mapping[str, int]) -> None:
        for move in moves:
            group = consumer_group(self._topology.app, move.part.group)
            self._check_unread(move, topics, plan.offsets.get(group, {}))

    def _show(self, moves: Sequence[Move], topics: Mapping[str, int], *, runs: bool) -> None:
        """What would be done; of each topic its records, which are more than the entries before it is compacted."""
        app, servers = self._topology.app, self._on.servers
        self._out.print(Text(f"rescale of {app} on {servers} to {self._wanted.partitions} partitions", style="bold"))
        table = human.table("TOPIC", "OF", ">PARTITIONS BEFORE", ">AFTER", ">RECORDS", "")
        for move in moves:
            own = [name for name in move.part.topics if name not in move.outside]
            logs = [self._topology.changelog(store) for store in move.part.stores]
            for name in (*move.outside, *own, *logs):
                what = "more partitions" if name in move.grow else "made anew" if name not in move.outside else ""
                table.add_row(
                    name, move.part.name, str(topics.get(name, 0)), str(move.after), f"{self._records(name, topics):,}",
                    what,
                )  # fmt: skip
        human.console().print(table)
        how = (
            "The app is stopped with a savepoint." if runs else "The app does not run; its changelogs make a savepoint."
        )
        self._out.print(Text(f"{how} All of its changelogs, repartition and delay topics are made anew."))

    def _records(self, name: str, topics: Mapping[str, int]) -> int:
        at = [TopicPartition(name, number) for number in range(topics.get(name, 0))]
        starts, ends = bounds(self._admin, at) if at else ({}, {})
        return sum(ends[each] - starts[each] for each in at)


def _free_name(storage: Storage) -> str:
    """Each has its own: that of the one before is the way back."""
    numbers = [int(found[1]) for name in savepoints_in(storage) if (found := _OURS.fullmatch(name)) is not None]
    return f"rescale-{max(numbers, default=0) + 1}"
