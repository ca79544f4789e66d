"""Whether a task should get its state from a snapshot, and from which: what counts is how much of the changelogs would
have to be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kstream.runtime.worker.replay import fit, unfit
from kstream.runtime.worker.snapshots.fetching import NO_BETTER, Fits
from kstream.state.backend import Mark
from kstream.state.changelog import Changelog
from kstream.state.expiry import families_of
from kstream.state.snapshots.manifest import Manifest

FAR: Final = 1_000_000
"""Changelog records that local state may lack and still be preferred to a snapshot: some seconds of replay."""


class Bound(NamedTuple):
    """A store, and where its changelog starts and ends."""

    store: str
    changelog: Changelog
    start: int
    end: int


class Choice:
    """For one task, as things are.

    Args:
        marks: how far local state is, by family; None for one that has none.
        now: seconds since the epoch.
        retention: seconds for which changelogs have tombstones.

    Attributes:
        tail: records to replay with local state.
        lacking: a store would be replayed from the start of its changelog, which has something.
    """

    def __init__(
        self, bounds: Sequence[Bound], marks: Callable[[str], Mark | None], now: float, retention: float
    ) -> None:
        self._bounds, self._now, self._retention = bounds, now, retention
        self.tail, self.lacking = 0, False
        for one in bounds:
            mark, _ = fit(marks, one.changelog, one.start, one.end, now, retention)
            if mark is None:
                self.lacking = self.lacking or one.end > one.start
                self.tail += one.end - one.start
            else:
                self.tail += one.end - mark.offset

    @property
    def wants_snapshot(self) -> bool:
        return self.lacking or self.tail > FAR

    @property
    def fits(self) -> Fits:
        """For any thread."""
        return self._why_not

    def _unfit(self, one: Bound, mark: Mark) -> str | None:
        return unfit(mark, one.changelog, one.start, one.end, self._now, self._retention)

    def _why_not(self, manifest: Manifest) -> str | None:
        tail = 0
        for one in self._bounds:
            stored = manifest.stores.get(one.store)
            if stored is None or not stored.has(families_of(one.changelog.spec)):  # rebuilt, its expiry index with it
                tail += one.end - one.start
                continue
            if (reason := self._unfit(one, stored.mark)) is not None:
                return f"store {one.store}: {reason}"
            tail += one.end - stored.offset
        if tail >= self.tail:
            return NO_BETTER
        return None
