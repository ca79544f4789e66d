"""The store of an aggregation over windows. Its keys begin with the start of their window, so windows that close are a
range."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, TypeVar, Unpack, cast

from kstream.codecs.windowed import START
from kstream.specs.store import StoreSpec
from kstream.state.backend import Reads
from kstream.state.scanning import overlaid
from kstream.state.store import Store, StoreOptions

V = TypeVar("V")


class _ByStart:
    """Changed keys by the start of their window, so that a close looks at those that are due and no others. Changes are
    taken in when somebody asks: a record costs nothing here."""

    def __init__(self) -> None:
        self._keys: dict[bytes, set[bytes]] = {}
        self._starts: list[bytes] = []  # a heap of those in `_keys`, and of some that went
        self._taken_in = 0  # so many of the changed keys, which are in the order of their first change

    def take_in(self, changed: Collection[bytes]) -> None:
        if new := len(changed) - self._taken_in:
            self._add(islice(reversed(cast("Any", changed)), new))
            self._taken_in = len(changed)

    def _add(self, keys: Iterable[bytes]) -> None:
        of_start = self._keys
        for key in keys:
            if (there := of_start.get(start := key[:START])) is not None:
                there.add(key)
            else:
                of_start[start] = {key}
                heappush(self._starts, start)

    def before(self, stop: bytes) -> list[bytes]:
        """The starts before this one, in their order. `forget` follows, or `taken_back`."""
        starts, due = self._starts, list[bytes]()
        while starts and starts[0] < stop:
            if (start := heappop(starts)) in self._keys and (not due or start != due[-1]):
                due.append(start)
        return due

    def starts_before(self, stop: bytes) -> list[bytes]:
        """The same starts, which stay where they are."""
        return sorted(start for start in self._keys if start < stop)

    def of(self, start: bytes) -> list[bytes]:
        """Its keys, in their order."""
        return sorted(self._keys[start])

    def forget(self, starts: Iterable[bytes]) -> None:
        for start in starts:
            del self._keys[start]

    def taken_back(self, keys: Iterable[bytes], changed: Collection[bytes], *, all_of_batch: bool) -> None:
        """These count again, and of the changed keys, all of which were taken in, some are gone."""
        if all_of_batch:
            self._starts = list(self._keys)
            heapify(self._starts)
        self._add(keys)
        self._taken_in = len(changed)

    def __iter__(self) -> Iterator[bytes]:
        """All keys, in their order."""
        for start in sorted(self._keys):
            yield from self.of(start)


class WindowStore(Store[V]):
    """See the module's text. What comes before `_floor` is gone: a scan need not go through what was deleted there."""

    _floor = _kept_floor = b""

    def __init__(self, spec: StoreSpec, backend: Reads, **options: Unpack[StoreOptions]) -> None:
        super().__init__(spec, backend, **options)
        self._by_start = _ByStart()

    def before(self, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries whose keys come before this one, in their order, encoded. Whoever takes them removes them all."""
        by_start = self._by_start
        by_start.take_in(self._dirty)
        starts = by_start.before(stop)
        yield from self._entries(starts, stop)
        by_start.forget(starts)
        self._floor = max(self._floor, stop)

    def up_to(self, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same entries, to be read only."""
        self._by_start.take_in(self._dirty)
        return self._entries(self._by_start.starts_before(stop), stop)

    def _entries(self, starts: Iterable[bytes], stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Those that changed, of these starts, and what else is stored before `stop`."""
        changed, by_start = self._dirty, self._by_start
        keys = (key for start in starts for key in by_start.of(start) if key in changed)
        due = {key: None if changed[key] is None else b"" for key in keys}  # encoded when it is their turn
        stored = (one for one in self.backend.scan(self.name, self._floor, stop) if one[0] not in changed)
        for key, raw in overlaid(due, stored, _as_stored):
            yield key, self._now(key) if key in due else raw

    def first(self) -> bytes | None:
        """The first key of all."""
        changed = self._dirty
        self._by_start.take_in(changed)
        own = next((key for key in self._by_start if changed.get(key) is not None), None)
        there = next((key for key, _ in self.backend.scan(self.name, self._floor) if key not in changed), None)
        return min((key for key in (own, there) if key is not None), default=None)

    def _now(self, key: bytes) -> bytes:
        """How a changed entry that is there is encoded."""
        raw = self._dirty[key]
        return raw if isinstance(raw, bytes) else self.encode(cast("V", self.live[key]))

    # ---- what one batch did, and the end of a transaction

    def keep(self) -> None:
        super().keep()
        self._kept_floor = self._floor

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        touched = list(self._before or () if keys is None else keys)
        self._by_start.take_in(self._dirty)
        if not super().take_back(touched):
            return False
        if keys is None:  # time goes back too, so what comes again may lie before what closed meanwhile
            self._floor = self._kept_floor
        elif there := [key for key in touched if self.live[key] is not None]:
            self._floor = min(self._floor, *there)
        again = [key for key in touched if key in self._dirty]
        self._by_start.taken_back(again, self._dirty, all_of_batch=keys is None)
        return True

    def committed(self) -> None:
        super().committed()
        self._by_start = _ByStart()

    def aborted(self) -> None:
        self._floor, self._by_start = b"", _ByStart()
        super().aborted()  # keeps that


def _as_stored(_: bytes, raw: bytes) -> bytes:
    return raw
