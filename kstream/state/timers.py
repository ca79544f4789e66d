"""The store of a processor's timers: by key and name, and in the order in which they are due.

By key and name they lie in the changelog, so a timer that is moved has one record there. The order is an index beside
it in the backend, in the same write, and nowhere else: a restore makes it anew. An entry of the index is the clock, the
time, and the key and name; it counts only where the timer is due then, so what a restore leaves of timers that were
moved does no harm, and is removed when its time has come.

What was set since the last commit is in a heap for each clock; the index is read in pieces, from where the last commit
left off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple, TypeAlias, Unpack

from kstream.codecs.timers import key_and_name, timer_key
from kstream.errors import KStreamError
from kstream.specs.store import StoreSpec
from kstream.specs.timers import Due, Timer, TimerClock
from kstream.specs.ttl import FOREVER
from kstream.state.backend import Changes, Reads
from kstream.state.expiry import families_of, index_of
from kstream.state.store import Store, StoreOptions

READ_AHEAD: Final = 1000
"""Entries of the index that are read at a time."""
ENTRY_BYTES: Final = 300
"""What an entry takes in a heap, or where it is remembered where a timer lies: its bytes and Python's objects."""

_BEFORE: Final = Struct(">BQ")
_CLOCKS: Final[tuple[TimerClock, ...]] = ("event", "wall")

Entry: TypeAlias = bytes
"""Of the index."""


class Fired(NamedTuple):
    """A timer that is due: it is no more. `entry` is what it was in the index, `key` that of its record."""

    entry: Entry
    key: bytes
    timer: Timer


def entry_of(due: Due, key: bytes) -> Entry:
    return _BEFORE.pack(_CLOCKS.index(due.clock), due.at) + key


def replayed_timers(spec: StoreSpec, records: Iterable[tuple[bytes, bytes | None]]) -> Mapping[str, Changes]:
    """The changes that records of the changelog make.

    Raises:
        KStreamError: one is no timer.
    """
    entries = dict(records)
    decode = spec.value.codec.decode
    try:
        places = {entry_of(decode(raw), key): b"" for key, raw in entries.items() if raw is not None}
    except ValueError as error:
        raise KStreamError(f"it is no timer ({error}), so another program writes to the changelog") from error
    return {spec.name: entries.items(), index_of(spec.name): places.items()}


class Order:
    """The timers of one clock in the order in which they are due, those aside that do not count.

    Attributes:
        next: none is due before (ms); may be too early.
        floor: none of the index lies before, as of the last commit.
    """

    def __init__(self, clock: TimerClock) -> None:
        number = _CLOCKS.index(clock)
        self.first, self.end = bytes([number]), bytes([number + 1])
        self.heap: list[Entry] = []
        self.forget()

    def forget(self) -> None:
        """The backend may have other contents now."""
        self.floor = self.first
        self.start_over()

    def start_over(self) -> None:
        """Nothing was taken since the last commit."""
        self.ahead: list[Entry] = []  # read, the first of them last
        self.read_to = self.floor
        self.next = self.time_of(self.floor)
        if self.heap:
            self.next = min(self.next, self.time_of(self.heap[0]))

    def add(self, entry: Entry, at: int) -> None:
        heappush(self.heap, entry)
        self.next = min(self.next, at)

    def committed(self) -> None:
        """What is in the heap is in the index, and what was taken is not."""
        self.floor = min([self.ahead[-1] if self.ahead else self.read_to, *self.heap[:1]])
        self.heap = []
        self.start_over()

    def first_of_all(self) -> Entry:
        """What lies first, as far as it was read."""
        unread = self.ahead[-1] if self.ahead else self.read_to
        return min(unread, self.heap[0]) if self.heap else unread

    def drop_first(self, entry: Entry) -> bool:
        """Takes it from where it is. Returns whether it is in the index."""
        while self.heap and self.heap[0] == entry:
            heappop(self.heap)
        if self.ahead and self.ahead[-1] == entry:
            self.ahead.pop()
            return True
        return False

    def settle(self) -> None:
        """`next` is what lies first now."""
        self.next = self.time_of(self.first_of_all())

    def due_known(self, before: int, most: int) -> int:
        """How many of those that were set or read are due before this time; no more than these are counted."""
        heap, found = self.heap, 0
        places = [0]
        while places and found <= most:
            if (place := places.pop()) < len(heap) and self.time_of(heap[place]) < before:
                found += 1
                places += (2 * place + 1, 2 * place + 2)
        for entry in reversed(self.ahead):
            if found > most or self.time_of(entry) >= before:
                break
            found += 1
        return found

    def time_of(self, entry: Entry) -> int:
        if entry == self.end:
            return FOREVER
        return 0 if len(entry) < _BEFORE.size else int(_BEFORE.unpack_from(entry)[1])


class TimerStore(Store[Due]):
    """See the module's text. Each timer is there once: setting it again moves it."""

    def __init__(self, spec: StoreSpec, backend: Reads, **options: Unpack[StoreOptions]) -> None:
        both = options["cache_bytes"]
        options["cache_bytes"] = own = both * 3 // 4  # the rest is for where timers lie in the index
        super().__init__(spec, backend, **options)
        self._most_known = (both - own) // ENTRY_BYTES
        self.families = families_of(spec)
        self._index = index_of(spec.name)
        self._orders = {clock: Order(clock) for clock in _CLOCKS}
        self.events = self._orders["event"]
        self._known: dict[bytes, Entry | None] = {}  # where committed timers lie in the index
        self._doubtful: set[Entry] = set()  # of the index: they were met, and did not count
        self._stored: dict[bytes, bytes | None] | None = None  # what the next commit stores, once that is known

    # ---- setting them

    def set(self, key: bytes, name: str, due: Due) -> None:
        """Of an encoded key. One of that name is moved."""
        both = timer_key(key, name)
        self.put(both, due)
        self._orders[due.clock].add(entry_of(due, both), due.at)

    def cancel(self, key: bytes, name: str) -> None:
        """One that is not there is none."""
        both = timer_key(key, name)
        if self.get(both) is not None:
            self.delete(both)

    def of(self, key: bytes, name: str) -> Due | None:
        return self.get(timer_key(key, name))

    # ---- when they are due

    def is_due(self, clock: TimerClock, before: int) -> bool:
        """Whether one is due before this time (ms)."""
        return self._first(self._orders[clock], before) is not None

    def has_more_due(self, most: int, before: int) -> bool:
        """Whether more than so many of event time are due before this time (ms). Those that were moved since may count
        with them."""
        order = self.events
        if order.next >= before:
            return False
        found = order.due_known(before, most)
        if found <= most and order.read_to != order.end and order.time_of(order.read_to) < before:
            for entry, _ in self.backend.scan(self._index, order.read_to):
                if found > most or entry >= order.end or order.time_of(entry) >= before:
                    break
                found += 1
        return found > most

    def pop(self, clock: TimerClock, before: int) -> Fired | None:
        """The first timer that is due before this time (ms), in the order of time, key and name. It is removed."""
        order = self._orders[clock]
        entry = self._first(order, before)
        if entry is None:
            return None
        both = entry[_BEFORE.size :]
        if order.drop_first(entry):
            self._doubtful.add(entry)
        self.delete(both)
        key, name = key_and_name(both)
        return Fired(entry, key, Timer(name, order.time_of(entry), clock))

    def _first(self, order: Order, before: int) -> Entry | None:
        """The first entry that is due before this time and counts. Those before it, which do not, are dropped."""
        while order.next < before:
            self._read(order, before)
            order.settle()
            if order.next >= before:
                return None
            entry = order.first_of_all()
            both = entry[_BEFORE.size :]
            due = self.get(both)
            if due is not None and entry_of(due, both) == entry:
                return entry
            if order.drop_first(entry):
                self._doubtful.add(entry)
        return None

    def _read(self, order: Order, before: int) -> None:
        """The next piece of the index, where it may have something that is due before."""
        if order.ahead or order.read_to == order.end or order.time_of(order.read_to) >= before:
            return
        found: list[Entry] = []
        read_to = order.end
        for entry, _ in self.backend.scan(self._index, order.read_to):
            if entry >= order.end:
                break
            found.append(entry)
            if len(found) == READ_AHEAD or order.time_of(entry) >= before:
                read_to = entry + b"\0"
                break
        order.read_to = read_to
        self.load([entry[_BEFORE.size :] for entry in found])
        order.ahead = found[::-1]

    # ---- what one batch did

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        if not super().take_back(keys):
            return False
        for order in self._orders.values():
            order.heap = []
        for both in self._dirty:
            if (due := self.live.get(both)) is not None:
                self._orders[due.clock].heap.append(entry_of(due, both))
        for order in self._orders.values():
            heapify(order.heap)
            order.start_over()
        return True

    # ---- the end of a transaction

    @property
    def overlay_bytes(self) -> int:
        return super().overlay_bytes + ENTRY_BYTES * sum(len(order.heap) for order in self._orders.values())

    def stored_changes(self) -> dict[bytes, bytes | None]:
        """Without timers that were set and fired, or moved to where they were."""
        if self._stored is None:
            changes, known = self.encode_changes(), self._known
            if unknown := [both for both in changes if both not in known]:
                decode = self.value_codec.decode
                for both, raw in zip(unknown, self.backend.multi_get(self.name, unknown), strict=True):
                    known[both] = None if raw is None else entry_of(decode(raw), both)
            self._stored = {both: raw for both, raw in changes.items() if self._entry(both) != known[both]}
        return self._stored

    def _entry(self, both: bytes) -> Entry | None:
        due = self.live[both]
        return None if due is None else entry_of(due, both)

    def local_changes(self) -> dict[str, Changes]:
        changes: dict[str, Changes] = super().local_changes()
        if moves := self._moves():
            changes[self._index] = moves.items()
        return changes

    def _moves(self) -> dict[Entry, bytes | None]:
        """What becomes of the index."""
        moves: dict[Entry, bytes | None] = {}
        for entry in self._doubtful:
            both = entry[_BEFORE.size :]
            if both not in self._dirty and ((due := self.get(both)) is None or entry_of(due, both) != entry):
                moves[entry] = None
        for both in self.stored_changes():
            old, new = self._known[both], self._entry(both)
            if old is not None:
                moves[old] = None
            if new is not None:
                moves[new] = b""
        for entry in self._doubtful:
            both = entry[_BEFORE.size :]
            if both in self._dirty and self._entry(both) != entry:
                moves[entry] = None
        return moves

    def committed(self) -> None:
        known = {both: self._entry(both) for both in self._dirty}
        self._known.update(known)
        if len(self._known) > self._most_known:
            self._known = dict(islice(reversed(self._known.items()), self._most_known // 2))
        for order in self._orders.values():
            order.committed()
        self._doubtful, self._stored = set(), None
        super().committed()

    def aborted(self) -> None:
        super().aborted()
        self._known, self._doubtful, self._stored = {}, set(), None
        for order in self._orders.values():
            order.heap = []
            order.forget()
