"""Aggregations over windows that tell results while windows are open."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import Any, cast

from kstream.codecs.windowed import START, start_in, stored_start
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE
from kstream.operators.windowed_aggregate import WindowedAggregate
from kstream.state.windows import WindowStore


class EarlyAggregate(WindowedAggregate):
    """A `WindowedAggregate` that tells what each open window has whenever the time of the task passes a multiple of
    `every`, and at the end as that does (Flink's continuous trigger of event time, Beam's early firings).
    Where time passes several at once it tells once.

    All windows are told that began before, whether or not they changed: what changed since would be state of its own.
    What was told follows from the time of the task, which is committed: nothing more is kept.
    """

    def __init__(self, *args: Any, every: int, **named: Any) -> None:
        """`every`: in ms."""
        super().__init__(*args, **named)
        self._every = every
        self._told_at: int | None = None  # the last of these times; None: that of the last commit
        self._kept_told_at: int | None = None
        self._passed: list[int] = []  # times that records moved to which were left out, where something is to be told
        self._kept_passed: list[int] = []

    def _moment(self, time: int) -> tuple[int, int]:
        return super()._moment(time)[0], time // self._every * self._every

    def _reach(self, moment: tuple[int, int], origin: Origin | None) -> None:
        """Records that were left out before moved time, too: it is gone through as if they were here."""
        if self._passed:
            for passed in map(self._moment, self._passed):
                if passed < moment:
                    self._step(passed, origin)
            self._passed = []
        times = [] if origin is None else origin.watermarks
        while (next_ := bisect_left(times, self._last_told() + self._every)) < len(times):
            passed = self._moment(times[next_])
            if passed >= moment:
                break
            self._step(passed, origin)
        self._step(moment, origin)

    def _step(self, moment: tuple[int, int], origin: Origin | None) -> None:
        super()._reach(moment, origin)
        if (at := moment[1]) > self._last_told():
            self._told_at = at
            if at > 1:  # a result of 1970-01-01T00:00:00Z cannot be written
                self._tell_open(at, origin)

    def left_out(self, time: int) -> None:
        before = self._moment(self._passed[-1])[1] if self._passed else self._last_told()
        if self._moment(time)[1] > before:
            self._passed.append(time)

    def _last_told(self) -> int:
        if self._told_at is None:
            self._told_at = self._moment(self._time.committed_now)[1]
        return self._told_at

    def _tell_open(self, at: int, origin: Origin | None) -> None:
        """What they have, with the last ms before `at` as its time, or that of the window."""
        store, end_of = cast("WindowStore[Any]", self.store), self._windows_of.end_of
        times = [] if origin is None else origin.watermarks
        row = min(bisect_left(times, at), len(times) - 1) if times else None
        began = store.up_to(stored_start(at))
        while entries := list(islice(began, AT_ONCE)):
            last = {start: min(at, end_of(start_in(start))) - 1 for start in {key[:START] for key, _ in entries}}
            keys, raw = [key for key, _ in entries], [raw for _, raw in entries]
            rows = None if row is None else [row] * len(keys)
            self._tell(keys, raw, [last[key[:START]] for key in keys], origin, rows)

    def closes_by(self, time: int) -> bool:
        at = self._moment(time)[1]
        if at > self._last_told():
            first = cast("WindowStore[Any]", self.store).first()
            if first is not None and start_in(first) < at:
                return True
        return super().closes_by(time)

    # ---- the end of a batch, and of a transaction

    def keep(self) -> None:
        super().keep()
        self._kept_told_at, self._kept_passed = self._told_at, self._passed.copy()

    def take_back(self) -> bool:
        self._told_at, self._passed = self._kept_told_at, self._kept_passed.copy()
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._told_at = self._kept_told_at = None
        self._passed, self._kept_passed = [], []
