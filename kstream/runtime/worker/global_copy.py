"""A worker's copy of a topic behind a global table: on disk, with how far it is in the same write.

It has two places for rows. One is read by tasks; where the topic has to be read anew (it was made anew, or what is next
was deleted), the other is filled meanwhile, and takes over when it is at the end. So tasks never see half a table.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from kstream.errors import StateError, StateInUse
from kstream.observe.throttle import Throttle
from kstream.runtime.cluster.naming import directory_name, keep_whole_name
from kstream.runtime.task.context import remember
from kstream.runtime.task.states import move
from kstream.specs.global_table import GlobalSpec
from kstream.specs.stored import GLOBAL_ROWS
from kstream.state.backend import Backend, Mark
from kstream.state.global_store import GlobalStore
from kstream.state.unopened import Unopened
from kstream.types import Clock, DescribedTopic, Fetch, TopicPartition

log = logging.getLogger(__name__)
log.addFilter(Throttle())

GLOBAL: Final = "@global"
"""Where a worker's copies lie, in its own directory. No sub-topology's directory is called so."""

HANDOVER_SECONDS: Final = 60.0
"""How long a predecessor of this worker may take to close its copy."""

REFRESH_SECONDS: Final = 600.0
"""How often a copy that is at the end notes that it is: so it is known later for how long it was not read."""

COUNT_SECONDS: Final = 5.0
FEW: Final = 5_000
"""How often rows are counted, and up to how many: a microsecond each. RocksDB estimates more than there are of what was
just written."""


class CopyState(Enum):
    """What a copy waits for."""

    ASKING = "what its topic is"
    LOADING = "the end of its topic"
    FOLLOWING = "what comes"
    RESTING = "its next try"


COPY_MOVES: Mapping[CopyState, frozenset[CopyState]] = {
    CopyState.ASKING: frozenset({CopyState.LOADING, CopyState.FOLLOWING, CopyState.RESTING}),
    CopyState.LOADING: frozenset({CopyState.FOLLOWING, CopyState.ASKING, CopyState.RESTING}),
    CopyState.FOLLOWING: frozenset({CopyState.ASKING, CopyState.RESTING}),
    CopyState.RESTING: frozenset({CopyState.ASKING}),
}


class Reached(msgspec.Struct, frozen=True):
    """How far rows are, as their mark says it.

    Attributes:
        topic: its name; id: that of the topic (KIP-516), None where it is not known.
        offsets: of each partition, what is read next.
        whole: they have been to the end of the topic.
        v: the number of this form.
    """

    topic: str
    id: str | None
    offsets: dict[int, int]
    whole: bool
    v: int = GLOBAL_ROWS.number


class GlobalCopy:
    """See the module's text.

    Attributes:
        directory: where its files lie.
        store: what tasks read.
        positions: of each partition, what is read next.
        why: what keeps it from being read on; None: nothing.
        not_before: when it is tried again (monotonic), while it rests.
        applied, left_out: records that became rows or took them away, and those without a key.
    """

    partition: Final = 0  # it has them all: for those who name tasks

    def __init__(
        self,
        spec: GlobalSpec,
        directory: Path,
        backends: Callable[[Path, Sequence[str]], Backend],
        clock: Clock,
        cache_bytes: int,
    ) -> None:
        self.spec, self.name, self.topic = spec, spec.name, spec.topic.name
        self.directory, self._backends, self._clock = directory / GLOBAL / directory_name(spec.name), backends, clock
        self._places = (spec.name, f"{spec.name}#other")
        self.backend: Backend = Unopened()
        self.store: GlobalStore[object] = GlobalStore(
            spec, self.backend, cache_bytes=cache_bytes, note=remember
        )  # fmt: skip
        self.state = CopyState.ASKING
        self.positions: dict[int, int] = {}
        self.why: str | None = None
        self.not_before = 0.0
        self.applied = self.left_out = 0
        self._id: str | None = None
        self._fills = self._places[0]
        self._open_for: set[int] = set()  # partitions whose ends are not reached yet
        self._ends: dict[int, int] = {}
        self._rows, self._counted = 0, -math.inf
        self._since = clock.monotonic()
        self._refreshed = clock.monotonic()
        self._rests_since: float | None = None  # (wall) None: it is read

    @property
    def serves(self) -> bool:
        """Whether tasks can read it."""
        return self.store.serves is not None

    @property
    def is_read(self) -> bool:
        """Whether its topic is being read."""
        return self.state in (CopyState.LOADING, CopyState.FOLLOWING)

    @property
    def reads(self) -> dict[TopicPartition, int]:
        """Where each partition is read on; nothing while its topic is not read."""
        if not self.is_read:
            return {}
        return {TopicPartition(self.topic, number): offset for number, offset in self.positions.items()}

    @property
    def rows(self) -> int:
        """About how many it has; few are counted now and then."""
        now = self._clock.monotonic()
        if self.is_open and now - self._counted >= COUNT_SECONDS:
            place = self.store.serves or self._fills
            counted = self.backend.count(place, FEW)
            self._rows, self._counted = self.backend.entries(place) if counted is None else counted, now
        return self._rows

    def remaining(self) -> int:
        """Records up to where the topic ended when it was asked for, at most."""
        return sum(max(0, end - self.positions.get(number, 0)) for number, end in self._ends.items())

    # ---- its files

    @property
    def is_open(self) -> bool:
        return not isinstance(self.backend, Unopened)

    def open(self) -> bool:
        """Opens them. False: a predecessor of this worker has not closed them yet.

        Raises:
            StateDirectoryError: they cannot be used, on account of the machine.
        """
        if self.is_open:
            return True
        try:
            self.backend = self._backends(self.directory, self._places)
        except StateInUse:
            if self._clock.monotonic() - self._since < HANDOVER_SECONDS:
                return False
            raise
        except StateError as error:
            self.damaged(error)
            self.backend = self._backends(self.directory, self._places)
        if self.directory.exists():
            keep_whole_name(self.directory, self.name)
        self.store.backend = self.backend
        return True

    def damaged(self, error: StateError) -> None:
        """Its files are of no use: it is read anew, and nobody can read it until then."""
        log.warning("global table %s is read anew from topic %s: %s", self.name, self.topic, error)
        self.close(refresh=False)
        self.store.serve(None)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.ask()

    def close(self, *, refresh: bool = True) -> None:
        """Frees its files. Never raises on account of them."""
        if not self.is_open:
            return
        backend, self.backend = self.backend, Unopened()
        try:
            if refresh and self.state is CopyState.FOLLOWING:
                backend.write({}, {self._fills: self._mark(whole=True)})
            backend.close()
        except StateError as error:  # what was not flushed is read again
            log.warning("the copy of global table %s was not closed properly: %s", self.name, error)

    # ---- what it waits for

    def go(self, state: CopyState) -> None:
        if state is not self.state:
            move(f"global table {self.name}", self.state, state, COPY_MOVES)
            self.state = state

    def ask(self) -> None:
        """It is to be found out where its topic is read on."""
        self.go(CopyState.ASKING)

    def rest(self, why: str, seconds: float) -> None:
        """It cannot be read on, and is tried again later. Said once for each reason."""
        if why != self.why:
            kept = "tasks go on with what it has" if self.serves else "what uses it waits"
            log.warning("global table %s: %s; %s, and it is tried again every %.0f s", self.name, why, kept, seconds)
        if self._rests_since is None:
            self._rests_since = self._clock.time()
        self.why, self.not_before = why, self._clock.monotonic() + seconds
        self.go(CopyState.RESTING)

    def seen(self, topic: DescribedTopic) -> None:
        """What the brokers say of its topic while it is read: it may have been made anew, or have more partitions."""
        anew = self._id is not None and topic.id is not None and topic.id != self._id
        if anew or topic.partitions != len(self.positions):
            self.ask()

    def begin(
        self, topic: DescribedTopic, starts: Mapping[int, int], ends: Mapping[int, int], keeps: Callable[[], float]
    ) -> None:
        """Goes on where it was, or from the start where that is of no use.

        Args:
            starts, ends: of its partitions, as they are now.
            keeps: seconds for which the topic has tombstones. Called where that counts: it may take a while.

        Raises:
            StateError: its files are damaged.
        """
        mark, rested = self._mark(whole=True), self._rests_since is not None
        if self._rests_since is not None:
            mark = mark._replace(wall_time=self._rests_since)
        if self.serves and self._misfit(mark, topic, starts, ends, keeps if rested else _for_ever) is None:
            self.positions = {number: self.positions.get(number, start) for number, start in starts.items()}
        elif (found := None if self.serves else self._usable(topic, starts, ends, keeps)) is not None:
            self._fills, reached = found
            self.positions = {number: reached.offsets.get(number, start) for number, start in starts.items()}
        else:
            self._fills = self._places[self.store.serves == self._places[0]]
            self.backend.reset(self._fills)
            self.positions = dict(starts)
        self._id = topic.id
        self._ends = dict(ends)
        self._open_for = {number for number, end in ends.items() if self.positions[number] < end}
        self.why = self._rests_since = None
        if self.store.serves == self._fills:
            self.go(CopyState.FOLLOWING)
            return
        self.go(CopyState.LOADING)
        log.info(
            "global table %s: about %d records of topic %s are read%s",
            self.name, self.remaining(), self.topic, "; tasks see the old rows until then" if self.serves else "",
        )  # fmt: skip
        self._look()

    def _usable(
        self, topic: DescribedTopic, starts: Mapping[int, int], ends: Mapping[int, int], keeps: Callable[[], float]
    ) -> tuple[str, Reached] | None:
        """The place whose rows can be gone on with, and how far they are. Of one that was not read to the end only
        where there is no other."""
        found: list[tuple[bool, float, str, Reached]] = []
        for place in self._places:
            mark = self.backend.mark(place)
            if mark is None:
                continue
            if (why := self._misfit(mark, topic, starts, ends, keeps)) is not None:
                log.info("global table %s: the local copy is not used: %s", self.name, why)
                continue
            reached = _reached(mark)
            assert reached is not None
            found.append((reached.whole, mark.wall_time, place, reached))
        if not found:
            return None
        _, _, place, reached = max(found, key=lambda one: one[:2])
        return place, reached

    def _misfit(
        self,
        mark: Mark,
        topic: DescribedTopic,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        keeps: Callable[[], float],
    ) -> str | None:
        """Why rows with this mark cannot be gone on with; None where what comes behind is all they lack."""
        reached = _reached(mark)
        if reached is None:
            return "what is said of it cannot be read"
        if refusal := GLOBAL_ROWS.refusal("its mark", reached.v):
            return refusal
        if reached.topic != self.topic:
            return f"it is of topic {reached.topic}"
        if reached.id is not None and topic.id is not None and reached.id != topic.id:
            return f"topic {self.topic} was deleted and created again"
        behind = False
        for number, offset in reached.offsets.items():
            if number not in starts:
                return f"topic {self.topic} has fewer partitions than it had"
            if not starts[number] <= offset <= ends[number]:
                at = TopicPartition(self.topic, number)
                return f"{at} has no offset {offset} any more: it holds {starts[number]} to {ends[number]}"
            behind = behind or offset < ends[number]
        age = self._clock.time() - mark.wall_time
        if behind and age > keeps():
            return f"it is {age / 3600:.1f} hours old, and tombstones may have left topic {self.topic} since"
        return None

    # ---- what comes

    def apply(self, fetch: Fetch) -> None:
        """Raises StateError where its files are damaged, StateDirectoryError and StateTooLarge as its backend."""
        keys = fetch.keys()
        if None in keys:
            self._leave_out(fetch, keys)
        changes = [(key, value) for key, value in zip(keys, fetch.values(), strict=True) if key is not None]
        self.positions[fetch.at.partition] = fetch.last_offset + 1
        mark = self._mark(whole=self.store.serves == self._fills)
        self.backend.write({self._fills: changes}, {self._fills: mark})
        self.applied += len(changes)
        if self.store.serves == self._fills:
            self.store.changed(keys)
        else:
            self._passed(fetch.at.partition, self._ends.get(fetch.at.partition, 0))

    def _leave_out(self, fetch: Fetch, keys: Sequence[bytes | None]) -> None:
        without = [at for at, key in zip(fetch.offsets(), keys, strict=True) if key is None]
        self.left_out += len(without)
        log.warning(
            "global table %s: %d records without a key are left out; the first is at %s offset %d",
            self.name, len(without), fetch.at, without[0],
        )  # fmt: skip

    def reached_end(self, partition: int, offset: int) -> None:
        """There is nothing more of a partition now: behind the last record there may be markers of transactions."""
        self.positions[partition] = max(self.positions[partition], offset)
        self._passed(partition, offset)

    def _passed(self, partition: int, end: int) -> None:
        if partition in self._open_for and self.positions[partition] >= end:
            self._open_for.discard(partition)
            self._look()

    def _look(self) -> None:
        """Serves what was filled, once it has been to the ends."""
        if self._open_for or self.state is not CopyState.LOADING:
            return
        self.backend.write({}, {self._fills: self._mark(whole=True)})
        before = self.store.serves
        self.store.serve(self._fills)
        self._counted = -math.inf
        self.go(CopyState.FOLLOWING)
        if before is not None:
            self.backend.reset(before)
        log.info("global table %s has all of topic %s: about %d rows", self.name, self.topic, self.rows)

    def refresh(self) -> None:
        """Notes now and then that it was still read."""
        now = self._clock.monotonic()
        if self.state is CopyState.FOLLOWING and now - self._refreshed > REFRESH_SECONDS:
            self._refreshed = now
            self.backend.write({}, {self._fills: self._mark(whole=True)})

    def _mark(self, *, whole: bool) -> Mark:
        reached = Reached(self.topic, self._id, self.positions, whole)
        return Mark(sum(self.positions.values()), self._clock.time(), msgspec.json.encode(reached))


def _for_ever() -> float:
    return math.inf


def _reached(mark: Mark) -> Reached | None:
    try:
        return msgspec.json.decode(mark.about, type=Reached)
    except msgspec.MsgspecError:
        return None
