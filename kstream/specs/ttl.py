"""How long state is kept (time to live).

The meaning is that of Flink's StateTtlConfig, whose names these are. Beyond it: time may be event time, and TTL may be
put on state that is there already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from kstream.errors import TopologyError

Update = Literal["create_and_write", "read_and_write"]
Visibility = Literal["never_return_expired", "return_expired_if_not_cleaned_up"]
TimeKind = Literal["wall", "event"]
Existing = Literal["from_next_write", "retroactive"]
Per = Literal["key", "entry"]

FOREVER: Final = (1 << 63) - 1
"""The latest time there is (ms since the epoch). What would expire later expires then, which is never."""


def _check_count(value: Any, what: str) -> None:
    if type(value) is not int or value < 1:
        raise TopologyError(f"{what}{value!r}): it is a whole number above 0")


@dataclass(frozen=True, slots=True)
class FullSnapshot:
    """Clean-up: what has expired is dropped where the whole state is read, when it is restored from its changelog."""


@dataclass(frozen=True, slots=True)
class Incremental:
    """Clean-up: for each access to the state some entries are looked at, round and round; those that have expired are
    removed with the next commit.

    Args:
        n: entries looked at for each access.
        every_record: for each record that the task processes too.

    Raises:
        TopologyError: `n` is no whole number above 0.
    """

    n: int = 5
    every_record: bool = False

    def __post_init__(self) -> None:
        _check_count(self.n, "Incremental(n=")
        if not isinstance(self.every_record, bool):
            raise TopologyError(f"Incremental(every_record={self.every_record!r}): it is True or False")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Clean-up in the background, in place of Flink's filter of RocksDB's compactions: an index of the times at which
    entries expire is gone through in order, with each commit, and also where no records come.

    Args:
        most: entries looked at in one commit, for each store of a task; where a commit writes more than half as many,
            twice what it writes, so that no turnover of keys is too fast for it.

    Raises:
        TopologyError: `most` is no whole number above 0.
    """

    most: int = 10_000

    def __post_init__(self) -> None:
        _check_count(self.most, "Sweep(most=")

    def looks_at(self, written: int) -> int:
        """Entries looked at in a commit that writes so many."""
        return max(self.most, 2 * written)


Cleanup = FullSnapshot | Incremental | Sweep

BY_DEFAULT: Final[tuple[Cleanup, ...]] = (Sweep(),)


_CHOICES: Final = {
    "update": ("create_and_write", "read_and_write"),
    "visibility": ("never_return_expired", "return_expired_if_not_cleaned_up"),
    "time": ("wall", "event"),
    "existing": ("from_next_write", "retroactive"),
    "per": ("key", "entry"),
}


@dataclass(frozen=True, slots=True, init=False)
class TTL:
    """An entry expires so long after it was written last.

    Args:
        length: as a timedelta; or in `days`, `hours`, `minutes`, `seconds`, which are added up.
        update: what starts its time anew: "create_and_write", or "read_and_write", where reading does too.
        visibility: "never_return_expired": an expired entry is as if it were not there.
            "return_expired_if_not_cleaned_up": it may be read until it is removed. Reading it removes it.
        time: "wall": the clock of the worker; "event": the largest event time that the task has seen. Neither goes
            back.
        cleanup: what removes expired entries that nobody reads: `Sweep`, `Incremental`, `FullSnapshot`. With none of
            them they stay until they are read.
        existing: what of entries that were written before the state had this TTL. "from_next_write": they do not
            expire until they are written again. "retroactive": their time is that of their changelog record.
        per: "key": each key of a table has one time. "entry": the value is a list or dict, each of whose elements or
            entries has its own, as in Flink's list and map state; the key goes with the last of them.

    Raises:
        TopologyError: this can be no TTL.
    """

    milliseconds: int
    update: Update
    visibility: Visibility
    time: TimeKind
    cleanup: tuple[Cleanup, ...]
    existing: Existing
    per: Per

    def __init__(
        self,
        length: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        update: Update = "create_and_write",
        visibility: Visibility = "never_return_expired",
        time: TimeKind = "wall",
        cleanup: tuple[Cleanup, ...] = BY_DEFAULT,
        existing: Existing = "from_next_write",
        per: Per = "key",
    ) -> None:
        given = {"update": update, "visibility": visibility, "time": time, "existing": existing, "per": per}
        for name, value in given.items():
            if value not in _CHOICES[name]:
                raise TopologyError(f"TTL({name}={value!r}): it is one of {', '.join(map(repr, _CHOICES[name]))}")
        if per == "entry" and (update, visibility) != ("create_and_write", "never_return_expired"):
            raise TopologyError(
                "TTL(per='entry'): it goes with update='create_and_write' and visibility='never_return_expired' only: "
                "a table's value is read as a whole, so each reading would refresh, or return, every entry"
            )
        put: Any = object.__setattr__
        put(self, "milliseconds", _length(length, (86_400, days), (3600, hours), (60, minutes), (1, seconds)))
        put(self, "cleanup", _cleanups(cleanup))
        for name, value in given.items():
            put(self, name, value)

    def __str__(self) -> str:
        each = ", each entry of a value by itself" if self.per == "entry" else ""
        return f"{self.milliseconds / 1000:g} s of {self.time} time, {self.update}{each}"

    @property
    def sweep(self) -> Sweep | None:
        return next((one for one in self.cleanup if isinstance(one, Sweep)), None)

    @property
    def incremental(self) -> Incremental | None:
        return next((one for one in self.cleanup if isinstance(one, Incremental)), None)

    @property
    def full_snapshot(self) -> bool:
        return FullSnapshot() in self.cleanup

    def expired(self, stamp: int, now: int) -> bool:
        """Whether what was written at `stamp` has expired `now` (ms): at the very instant it has. As Flink's
        TtlUtils.expired, times that are too large for 64 bits end at the largest."""
        return stamp + min(self.milliseconds, FOREVER - stamp) <= now


def check_ttl(ttl: Any, what: str) -> None:
    """Raises TopologyError where `ttl` is something else."""
    if ttl is not None and not isinstance(ttl, TTL):
        raise TopologyError(f"{what}: ttl={ttl!r} is no kstream.TTL: write ttl=kstream.TTL(hours=24)")


def _length(length: Any, *parts: tuple[int, Any]) -> int:
    given = [value for _, value in parts if value != 0]
    if length is not None:
        if not isinstance(length, timedelta):
            raise TopologyError(f"TTL({length!r}): give a timedelta, or days=, hours=, minutes= and seconds=")
        if given:
            raise TopologyError("TTL: give a timedelta, or days=, hours=, minutes= and seconds=, not both")
        found = length // timedelta(milliseconds=1)
    else:
        for value in given:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise TopologyError(f"TTL: {value!r} is no length of time")
        found = round(1000 * sum(seconds * value for seconds, value in parts))
    if found < 1:
        raise TopologyError("TTL: state is kept for a millisecond at least: give hours=, or days=, minutes=, seconds=")
    return min(found, FOREVER)


def _cleanups(given: Any) -> tuple[Cleanup, ...]:
    try:
        found = tuple(given)
    except TypeError:
        found = (given,)
    for one in found:
        if not isinstance(one, Cleanup):
            raise TopologyError(
                f"TTL(cleanup=): {one!r} is no clean-up: give kstream.Sweep(), kstream.Incremental(), "
                "kstream.FullSnapshot(), or an empty tuple"
            )
    if len({type(one) for one in found}) != len(found):
        raise TopologyError("TTL(cleanup=): the same clean-up is there twice")
    return found
