"""Scans: the keys of a dict in their order, and what was changed over what is stored."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

V = TypeVar("V")

END: Final = None, None

FEW: Final = 64
"""So many new keys are put each in its place; for more, all are sorted: that compares each key there is."""


class KeyOrder:
    """Keys in their order. What is added finds its place when somebody asks, so that a range for each record costs what
    it finds, and not what there is. A key may be there twice."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = sorted(keys)
        self.added: list[bytes] = []

    def __len__(self) -> int:
        return len(self._keys) + len(self.added)

    def between(self, start: bytes, stop: bytes | None) -> list[bytes]:
        """From `start` on, before `stop` (None: to the end)."""
        keys, added = self._keys, self.added
        if len(added) < FEW:
            for key in added:
                insort(keys, key)
        else:
            keys += added
            keys.sort()
        added.clear()
        return keys[bisect_left(keys, start) : None if stop is None else bisect_left(keys, stop)]


def overlaid(
    changed: Mapping[bytes, V | None], stored: Iterable[tuple[bytes, bytes]], read: Callable[[bytes, bytes], V]
) -> Iterator[tuple[bytes, V]]:
    """The entries of both, in the order of their keys, which both have.

    Args:
        changed: what counts instead of what is stored; None: it was removed.
        read: makes a value of a key and its bytes.
    """
    pending = iter(changed.items())
    upcoming, now = next(pending, END)
    for key, raw in stored:
        while upcoming is not None and upcoming < key:
            if now is not None:
                yield upcoming, now
            upcoming, now = next(pending, END)
        if upcoming == key:
            if now is not None:
                yield key, now
            upcoming, now = next(pending, END)
        else:
            yield key, read(key, raw)
    while upcoming is not None:
        if now is not None:
            yield upcoming, now
        upcoming, now = next(pending, END)
