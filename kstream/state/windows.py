"""The store of an aggregation over windows. Its keys begin with the start of their window, so windows that close are a
range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

from kstream.state.store import Store

V = TypeVar("V")


class WindowStore(Store[V]):
    """See the module's text. What comes before `_floor` is gone: a scan need not go through what was deleted there."""

    _floor = b""

    def before(self, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries whose keys come before this one, in their order, encoded. Whoever takes them removes them all."""
        changed = self._dirty
        upcoming = iter(sorted(key for key in changed if key < stop))
        own = next(upcoming, None)
        floor, self._floor = self._floor, stop
        for key, raw in self.backend.scan(self.name, floor):
            while own is not None and (own <= key or key >= stop):
                if (now := self._now(own)) is not None:
                    yield own, now
                own = next(upcoming, None)
            if key >= stop:
                break
            if key not in changed:
                yield key, raw
        while own is not None:
            if (now := self._now(own)) is not None:
                yield own, now
            own = next(upcoming, None)

    def first(self) -> bytes | None:
        """The first key of all."""
        own = min((key for key, raw in self._dirty.items() if raw is not None), default=None)
        there = next((key for key, _ in self.backend.scan(self.name, self._floor) if key not in self._dirty), None)
        return min((key for key in (own, there) if key is not None), default=None)

    def _now(self, key: bytes) -> bytes | None:
        """How a changed entry is encoded."""
        raw = self._dirty[key]
        return raw if raw is None or isinstance(raw, bytes) else self.encode(cast("V", self.live[key]))

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        self._floor = b""
        return super().take_back(keys)

    def aborted(self) -> None:
        self._floor = b""
        super().aborted()
