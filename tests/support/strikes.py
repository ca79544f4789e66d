"""Whether the faults that property tests draw ever strike: one that never does leaves its example without a fault."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from kstream.testing import MemoryCluster
from kstream.testing.faults import PlannedFault

ENOUGH = 40
"""Examples with faults of one kind from which on one of them must have struck."""

FEW = 10
"""Examples with faults below which nothing is said of their share."""


class Kind(NamedTuple):
    """Which call fails, with what, before or after it took effect."""

    call: str
    error: type[Exception]
    after: bool


class Strikes:
    """Counts examples, over all of a test in one process: hypothesis draws some faults that no call is left for.

    Attributes:
        planned, struck: in how many examples a fault of this kind was planned, and struck.
        with_faults, failing: in how many examples any was.
    """

    def __init__(self) -> None:
        self.planned: Counter[Kind] = Counter()
        self.struck: Counter[Kind] = Counter()
        self.with_faults = self.failing = 0

    def check(self, share: float) -> None:
        """Asserts that faults struck in this share of the examples that planned any, and each kind that was planned
        often in at least one."""
        if self.with_faults < FEW:
            pytest.skip(
                f"{self.with_faults} examples had faults: the property test before this one did not run in full"
            )
        told = {kind: f"{self.struck[kind]} of {count}" for kind, count in self.planned.items()}
        assert self.failing >= share * self.with_faults, told
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
        planned = {kind for kind, _ in self._faults}
        struck = {kind for kind, fault in self._faults if fault.struck}
        self._strikes.planned.update(planned)
        self._strikes.struck.update(struck)
        self._strikes.with_faults += bool(planned)
        self._strikes.failing += bool(struck)
