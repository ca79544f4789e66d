"""Whether the faults that property tests draw ever strike: one that never does leaves its example without a fault."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from kstream.testing import MemoryCluster
from kstream.testing.faults import PlannedFault

ENOUGH = 40
"""Plans of one kind from which on one of them must have struck."""


class Kind(NamedTuple):
    """Which call fails, with what, before or after it took effect."""

    call: str
    error: type[Exception]
    after: bool


class Strikes:
    """Counts over all examples of a test, in one process: hypothesis draws some faults that nothing is left for."""

    def __init__(self) -> None:
        self.planned: Counter[Kind] = Counter()
        self.struck: Counter[Kind] = Counter()

    def check(self, share: float) -> None:
        """Asserts that this share of all faults struck, and of each kind that was planned often at least one."""
        planned = self.planned.total()
        if not planned:
            pytest.skip("no fault was planned: the property test before this one did not run")
        told = {kind: f"{self.struck[kind]} of {count}" for kind, count in self.planned.items()}
        assert self.struck.total() >= share * planned, told
        assert all(self.struck[kind] for kind, count in self.planned.items() if count >= ENOUGH), told


class Planner:
    """Plans the faults of one example and, at its end, counts those that struck."""

    def __init__(self, cluster: MemoryCluster, strikes: Strikes) -> None:
        self._cluster, self._strikes = cluster, strikes
        self._faults: list[tuple[Kind, PlannedFault]] = []

    def plan(self, kind: Kind, skip: int) -> None:
        """The call after the next `skip` ones fails."""
        fault = self._cluster.faults.plan(kind.call, kind.error("planned"), after=kind.after, skip=skip)
        self._faults.append((kind, fault))

    def count(self) -> None:
        self._strikes.planned.update(kind for kind, _ in self._faults)
        self._strikes.struck.update(kind for kind, fault in self._faults if fault.struck)
