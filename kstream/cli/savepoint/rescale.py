"""`kstream rescale`: an app's state in another number of partitions (kstream/runtime/cluster/rescaling.py)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of
from kstream.cli.meant import agreed
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import place_of, told_when_broken_off
from kstream.cli.table import progress
from kstream.clock import SystemClock
from kstream.errors import KafkaUnavailable, KStreamError, UsageError
from kstream.runtime.cluster.control import (
    Control,
    Rescaling,
    RestoreNote,
    check_own,
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
from kstream.runtime.cluster.rescaling import Move, counts_now, counts_saved, moves_of, plan_of
from kstream.runtime.cluster.reset import Place
from kstream.runtime.cluster.saving import Saving
from kstream.state.savepoint import Savepoint, read_savepoint, savepoints_in
from kstream.state.snapshots.storage import Storage, open_storage
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, TopicPartition

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


class Rescale:
    """One run of the command."""

    def __init__(self, on: Subject, topology: Topology, clients: Clients, admin: AdminClient, wanted: Wanted) -> None:
        self._on, self._topology, self._clients, self._admin, self._wanted = on, topology, clients, admin, wanted
        self._out = human.lines()
        self._growing: dict[str, int] = {}  # inputs that were given more partitions, or were about to be

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
        how = (
            "The app is stopped with a savepoint." if runs else "The app does not run; its changelogs make a savepoint."
        )
        self._show(moves, topics, how)
        if wanted.dry_run:
            return 0
        if not wanted.yes and not agreed("Move the state?"):
            return 1
        storage = place_of(self._on, wanted.place)
        name = _free_name(storage)
        note = self._note(name, storage, moves, changing=False)
        savepoint = self._stop(storage, name, note) if runs else self._gather(storage, name, note)
        return self._finish(savepoint, storage, moves, note)

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
        if not begun.changing and not self._is_wanted_still(begun, storage):
            self._out.print(Text("that begins anew"))
            self._forget(note)
            return self.run()
        savepoint = read_savepoint(storage, begun.savepoint)
        topics, only = self._topics(), self._wanted.only
        moves = self._moves_begun(begun, savepoint, parts=begun.parts)
        if only and self._moves_begun(begun, savepoint, only=only) != moves:
            raise UsageError(
                f"app {self._topology.app} is being moved, and that is not complete: {', '.join(begun.parts)}, which "
                f"is not what --only {' --only '.join(only)} means: run it again without --only first"
            )
        if not begun.changing:
            self._show(moves, topics, f"The app does not run; it goes on with savepoint {begun.savepoint}.")
            if not self._wanted.yes and not agreed("Move the state?"):
                self._forget(note)
                return 1
        return self._finish(savepoint, storage, moves, note, changing=begun.changing)

    def _is_wanted_still(self, begun: Rescaling, storage: Storage) -> bool:
        """Whether what was begun is what is asked for now, and there is a savepoint to go on with."""
        if begun.partitions != self._wanted.partitions or begun.savepoint not in savepoints_in(storage):
            return False
        savepoint = read_savepoint(storage, begun.savepoint)
        try:
            moves = self._moves_begun(begun, savepoint, only=self._wanted.only)
            if moves != self._moves_begun(begun, savepoint, parts=begun.parts):
                return False
        except UsageError:  # the new beginning says it
            return False
        return not self._went_on(savepoint)

    def _moves_begun(self, begun: Rescaling, savepoint: Savepoint, **which: Sequence[str]) -> list[Move]:
        counts = counts_saved(self._topology, savepoint)
        return moves_of(self._topology, begun.partitions, counts, self._topics(), grow=self._wanted.grow, **which)

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

    def _forget(self, note: RestoreNote) -> None:
        """Another run's note stays."""
        found = unfinished_restore(self._clients, self._admin, self._topology.app)
        if found is not None and found.token == note.token:
            with closing(Control(self._clients, self._admin, self._topology.app)) as control:
                control.forget_restore()

    @contextmanager
    def _holding(self, note: RestoreNote) -> Iterator[None]:
        """What fails in here has not begun to change the app's state: the app may start again, with Ctrl-C too."""
        try:
            yield
        except BaseException:
            try:
                self._forget(note)
            except KStreamError as error:
                human.complain(f"app {self._topology.app} does not start until this is run again, to its end: {error}")
            raise

    # ---- the app, and what it has

    def _topics(self) -> dict[str, int]:
        return {name: info.partitions for name, info in self._admin.topics(TIMEOUT).items()}

    def _runs(self) -> bool:
        return any(self._members(group) for group in self._topology.groups)

    def _members(self, isolation: str) -> int:
        group = consumer_group(self._topology.app, isolation)
        return len(answer(lambda: self._admin.members(group), f"the members of group {group}"))

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
        with self._holding(note):
            savepoint = saving.make()
            self._out.print(Text("  the instances stop"))
            if not self._wait(STOP_SECONDS + settings.session_timeout):
                raise UsageError(
                    f"app {self._topology.app} still has members: stop all of its instances, and run this again; "
                    "nothing was changed"
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
        with self._holding(note):
            self._write(note)
            self._out.print(Text(f"savepoint {name} of {self._topology.app} from its changelogs, to {storage.url}"))
            with progress("entries of changelogs") as told:
                return Gathering(
                    self._topology, self._clients, self._admin, storage, name, SystemClock(),
                    settings=self._on.settings, begins=self._wanted.inputs is not None,
                    on_entries=lambda entries: told(entries, 0),
                ).make()  # fmt: skip

    # ---- from the savepoint on

    def _finish(
        self,
        savepoint: Savepoint,
        storage: Storage,
        moves: Sequence[Move],
        held: RestoreNote,
        *,
        changing: bool = False,
    ) -> int:
        """
        Args:
            held: the note that keeps the app from starting.
            changing: an earlier run has begun to change the app's topics.
        """
        settings, app = self._on.settings, self._topology.app
        with nullcontext() if changing else self._holding(held):
            try:
                plan, weighed = self._looked(savepoint, storage, moves, changing=changing)
                check_own(self._clients, self._admin, app, held)
            except BaseException:
                if not changing:
                    self._out.print(Text(f"{self._left_as()}; savepoint {savepoint.name} is in {storage.url}"))
                raise
        note = self._note(savepoint.name, storage, moves, changing=True)
        total = sum(store.entries for store in weighed.values())
        with told_when_broken_off(app, "this rescale") as begun, progress("entries written") as told:
            entries = carry_out(
                plan, self._topology, self._clients, self._admin, settings, storage,
                lambda done: told(done, total), note=note, on_begun=begun,
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
        self, savepoint: Savepoint, storage: Storage, moves: Sequence[Move], *, changing: bool
    ) -> tuple[Plan, dict[str, Weighed]]:
        """All that keeps the app from being moved is found here; but for its inputs, nothing is changed."""
        topics = self._topics()
        plan = plan_of(
            self._topology, self._admin, self._on.settings, savepoint, moves, topics, inputs=self._wanted.inputs
        )  # fmt: skip
        with progress("entries looked at") as told:
            weighed = weigh(
                plan, self._topology, self._on.settings, self._admin, storage, moves, lambda done: told(done, 0)
            )
        self._check_all_unread(plan, moves, topics)
        if not changing:
            check_unmoved(self._topology, self._admin, savepoint)
        if growing := {topic: move.after for move in moves for topic in move.grow}:
            self._growing = growing
            grow_inputs(self._admin, growing)
            for topic, count in growing.items():
                self._out.print(Text(f"  topic {topic} has {count} partitions"))
            # what a producer has written until then: it cannot be told to be read first any more
            self._check_all_unread(plan, [replace(move, grow=()) for move in moves], {**topics, **growing})
            if not changing:
                check_unmoved(self._topology, self._admin, savepoint)
        return plan, weighed

    def _left_as(self) -> str:
        if not self._growing:
            return "the app is stopped, and as it was"
        grown = ", ".join(f"{topic} ({count} partitions)" for topic, count in self._growing.items())
        return (
            f"the app is stopped, and its state as it was, but topics have grown, and Kafka takes no partitions away: "
            f"{grown}; what keeps state of them does not run until its state has moved, too"
        )

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

    def _show(self, moves: Sequence[Move], topics: Mapping[str, int], how: str) -> None:
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
        self._out.print(Text(f"{how} All of its changelogs, repartition and delay topics are made anew."))

    def _records(self, name: str, topics: Mapping[str, int]) -> int:
        at = [TopicPartition(name, number) for number in range(topics.get(name, 0))]
        starts, ends = bounds(self._admin, at) if at else ({}, {})
        return sum(ends[each] - starts[each] for each in at)


def _free_name(storage: Storage) -> str:
    """Each has its own: that of the one before is the way back. Folders of attempts that were broken off count, those
    of other apps among them."""
    folders = {entry.name.split("/")[0] for entry in storage.list("")}
    numbers = [int(found[1]) for name in folders if (found := _OURS.fullmatch(name)) is not None]
    return f"rescale-{max(numbers, default=0) + 1}"
