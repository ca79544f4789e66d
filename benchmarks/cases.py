"""What is compared with what, and how good it has to be."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Protocol

from benchmarks.child import Watch
from benchmarks.data import Data, delete_topics
from benchmarks.resident import early_and_late
from benchmarks.runs import Outcome, Service, outcome_of, run_restore_yardstick, run_yardstick
from kstream.config import Settings

DEFAULT_INTERVAL = 0.2
"""kstream's own default for `commit_interval`, for the yardstick; the services do not set it."""


@dataclass(frozen=True)
class Sizes:
    """How much of each: records over keys."""

    main: Data
    cold: Data
    long: Data
    many: Data
    """Over 64 partitions."""
    memory_from: int
    """In `long`: from here on the memory is looked at."""


FULL = Sizes(
    Data(5_000_000, 20_000),
    Data(2_000_000, 2_000_000),
    Data(30_000_000, 20_000),
    Data(5_000_000, 20_000, 64),
    5_000_000,
)
QUICK = Sizes(
    Data(400_000, 20_000),
    Data(200_000, 200_000),
    Data(1_600_000, 20_000),
    Data(400_000, 20_000, 64),
    400_000,
)


@dataclass(frozen=True)
class Case:
    """One row of the table. `bar` and `aim` are ratios to the yardstick; for `memory` the bar is an upper one."""

    name: str
    title: str
    kind: str
    bar: float
    aim: float | None = None


@dataclass(frozen=True)
class Group:
    """Cases that are compared with one run of the yardstick in each repetition."""

    cases: tuple[Case, ...]
    emit: str
    interval: float | None
    cold: bool = False
    many: bool = False


GROUPS = (
    Group(
        (
            Case("update", "DSL, a record out per record in", "update", 1.05),
            Case("ttl", "the first, with state that expires", "ttl", 0.95),
            Case("agent", "async generator with a table", "agent", 0.6),
            Case("untyped", "untyped JSON (dict)", "untyped", 0.5),
        ),
        "update",
        1.0,
    ),
    Group(
        (
            Case("commit", "DSL, one per changed key and commit", "commit", 0.85, 1.0),
            Case("windowed", "windows of a second, on close", "windowed", 0.6),
        ),
        "commit",
        1.0,
    ),
    Group((Case("update-default", "the first, commits every 0.2 s", "update", 0.85),), "update", None),
    Group((Case("commit-default", "one per key and commit, every 0.2 s", "commit", 0.75, 0.85),), "commit", None),
    Group((Case("many", "64 partitions, within the memory setting", "update", 1.3),), "update", 1.0, many=True),
    Group((Case("cold", "cold state, each key once", "update", 1.3, 1.5),), "update", 1.0, cold=True),
)
RESTORE = Case("restore", "restore from the changelog", "update", 0.8)
MEMORY = Case("memory", "resident memory", "update", 1.1)
OBSERVING = Case("observing", "processor time that metrics leave", "update", 0.97)
ALL = (*(case for group in GROUPS for case in group.cases), RESTORE, MEMORY, OBSERVING)
MEMORY_SETTING = Settings().memory
"""Bytes that a worker may take, by default."""
NAMES = tuple(case.name for case in ALL)


@dataclass(slots=True)
class Row:
    """A case with what was measured, a pair for each repetition. For `memory` the pair is resident bytes; `observing`
    has no yardstick but the whole of its own run."""

    case: Case
    yardstick: list[Outcome] = field(default_factory=list)
    kstream: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        if self.case is OBSERVING:
            return [1 - one.details["observing"] for one in self.kstream]
        return [mine.rate / theirs.rate for theirs, mine in zip(self.yardstick, self.kstream, strict=True)]

    @property
    def ratio(self) -> float | None:
        """The median of the repetitions' ratios."""
        return median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        if self.failures or self.ratio is None:
            return None
        if self.case.name == "many" and any(one.details["peak_rss"] > MEMORY_SETTING for one in self.kstream):
            return False
        return self.ratio <= self.case.bar if self.case is MEMORY else self.ratio >= self.case.bar


class Shown(Protocol):
    """How a run is shown while it lasts."""

    def __call__(self, what: str, total: int | None) -> Callable[[int], None]: ...


class Bench:
    """Runs the chosen cases, and keeps the rows.

    A case that fails is noted in its row and not tried again; the others go on.
    """

    def __init__(self, bootstrap: str, sizes: Sizes, chosen: tuple[str, ...], shown: Shown) -> None:
        self.bootstrap, self.sizes, self.chosen = bootstrap, sizes, chosen
        self.rows = {case.name: Row(case) for case in ALL if case.name in chosen}
        self._shown = shown
        self._numbers = itertools.count()
        self._with_changelog: Service | None = None

    def data(self) -> list[Data]:
        """The topics that the chosen cases read."""
        sizes, needed = self.sizes, []
        if "observing" in self.rows or any(self._cases(group) for group in GROUPS if not group.cold and not group.many):
            needed.append(sizes.main)
        if "many" in self.rows:
            needed.append(sizes.many)
        if {"cold", "restore"} & self.rows.keys():
            needed.append(sizes.cold)
        return [*needed, sizes.long] if "memory" in self.rows else needed

    def repeat(self, repetition: int) -> None:
        """All chosen cases once. Odd repetitions begin with kstream, so that a drift of the machine favours nobody."""
        for group in GROUPS:
            cases = self._cases(group)
            if cases:
                self._group(group, cases, yardstick_first=repetition % 2 == 0)
        if "restore" in self.rows:
            self._guarded((RESTORE,), self._restore)
        if "observing" in self.rows:
            self._guarded((OBSERVING,), self._observing)
        if self._with_changelog is not None:
            self._with_changelog.remove()
            self._with_changelog = None

    def memory(self) -> None:
        """One run: resident memory in a cycle of flushes after so many records, and in the last one."""
        if "memory" in self.rows:
            self._guarded((MEMORY,), self._memory)

    # ---- the runs

    def _cases(self, group: Group) -> tuple[Case, ...]:
        return tuple(case for case in group.cases if case.name in self.rows and not self.rows[case.name].failures)

    def _group(self, group: Group, cases: tuple[Case, ...], *, yardstick_first: bool) -> None:
        data = self.sizes.cold if group.cold else self.sizes.many if group.many else self.sizes.main

        def yardstick() -> Outcome:
            self._shown(f"yardstick, {group.emit}", None)
            name = f"bench-{os.getpid()}-{next(self._numbers)}-yardstick"
            return run_yardstick(self.bootstrap, data, name, group.emit, group.interval or DEFAULT_INTERVAL)

        def run() -> None:
            theirs = yardstick() if yardstick_first else None
            mine = [(case, outcome) for case in cases for outcome in self._service(case, group, data)]
            theirs = theirs or yardstick()
            for case, outcome in mine:
                self.rows[case.name].yardstick.append(theirs)
                self.rows[case.name].kstream.append(outcome)

        self._guarded(cases, run)

    def _service(self, case: Case, group: Group, data: Data) -> Iterator[Outcome]:
        """The outcome of one run, or none when it failed."""
        service = self._make(case.kind, data, group.interval)

        def run() -> None:
            result = service.run(Watch(data.records), self._shown(f"kstream, {case.title}", data.records))
            service.check()
            outcomes.append(outcome_of(result))

        outcomes: list[Outcome] = []
        self._guarded((case,), run)
        if group.cold and "restore" in self.rows and outcomes:
            self._with_changelog = service
        else:
            service.remove()
        yield from outcomes

    def _restore(self) -> None:
        data = self.sizes.cold
        service = self._with_changelog
        if service is None:
            service = self._make("update", data, 1.0)
            service.run(Watch(data.records), self._shown("kstream, writing a changelog", data.records))
            self._with_changelog = service
        self._shown("yardstick, restore", None)
        theirs = run_restore_yardstick(self.bootstrap, f"{service.name}-totals-changelog", data.records)
        watch = Watch(data.records, restore=True)
        mine = outcome_of(service.run(watch, self._shown(f"kstream, {RESTORE.title}", data.records)))
        service.check()  # nothing was processed twice
        self.rows["restore"].yardstick.append(theirs)
        self.rows["restore"].kstream.append(mine)

    def _observing(self) -> None:
        """One run with the default commit interval, timed by stages: what counting, reporting and the like take of the
        process's processor time. Two runs, with and without, would have to agree to 1%; here they differ by 10."""
        data = self.sizes.main
        service = self._make(OBSERVING.kind, data, None)
        watch = Watch(data.records, stages=True)
        result = service.run(watch, self._shown(f"kstream, {OBSERVING.title}", data.records))
        service.check()
        service.remove()
        outcome = outcome_of(result)
        outcome.details["observing"] = observing_of(result.stages) / result.cpu
        self.rows["observing"].kstream.append(outcome)

    def _memory(self) -> None:
        data = self.sizes.long
        service = self._make(MEMORY.kind, data, 1.0)
        result = service.run(Watch(data.records), self._shown(f"kstream, {MEMORY.title}", data.records))
        service.check()
        service.remove()
        row = self.rows["memory"]
        outcome = outcome_of(result)
        cycle = Settings().flush_interval if self.sizes is FULL else result.seconds / 8  # a tooth is not seen
        first, last = early_and_late(result.rss, self.sizes.memory_from, cycle)
        row.yardstick.append(Outcome(first, 0.0))
        most = [each * result.seconds / 8 for each in range(9)]
        way = [
            max((one.size for one in result.rss if since <= one.seconds <= until), default=0)
            for since, until in pairwise(most)
        ]
        row.kstream.append(Outcome(last, outcome.cpu, {**outcome.details, "rate": outcome.rate, "way": way}))

    def _make(self, kind: str, data: Data, interval: float | None) -> Service:
        name = f"bench-{os.getpid()}-{next(self._numbers)}-{kind}"
        return Service(self.bootstrap, kind, data, name, interval)

    def _guarded(self, cases: tuple[Case, ...], run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            for case in cases:
                self.rows[case.name].failures.append(f"{type(error).__name__}: {error}")

    def clean_up(self) -> None:
        """Deletes what broken runs have left."""
        delete_topics(self.bootstrap, f"bench-{os.getpid()}-")


def observing_of(stages: list[tuple[str, int, float, float]]) -> float:
    """Seconds of processor time in the stages that only observe."""
    return sum(cpu for name, _, _, cpu in stages if name.startswith("observing"))
