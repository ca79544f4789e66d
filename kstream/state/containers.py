"""Dicts and lists that know when each of their entries was written: what a table with a TTL per entry hands out.

They are dicts and lists to all who use them. Copies of them (`copy`, `deepcopy`, `|`, a slice) are plain ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_not
from typing import Any, Final, SupportsIndex

from kstream.state.forms import NEVER

PAST: Final = (
    "it was written to past its times (heapq does that): work on a copy, list(x) or dict(x), and assign the copy"
)
"""C code may write into a list or dict without a call of its methods."""


class TimedDict(dict[Any, Any]):
    """A dict whose entries have a time each.

    Args:
        value: what is in it.
        times: of its entries, in their order, ms since the epoch.
        now: what time it is.

    Attributes:
        times: by key.
        oldest: no entry is older.
    """

    __slots__ = ("now", "oldest", "times")

    def __init__(self, value: dict[Any, Any], times: Iterable[int], now: Callable[[], int]) -> None:
        super().__init__(value)
        self.times: dict[Any, int] = dict(zip(value, times, strict=True))
        self.oldest, self.now = min(self.times.values(), default=NEVER), now

    def plain(self) -> dict[Any, Any]:
        return dict(self)

    def stamps(self) -> list[int]:
        """The times of the entries, in their order.

        Raises:
            ValueError: something wrote into it that did not note the time.
        """
        try:
            found = [self.times[key] for key in self]
        except KeyError:
            raise ValueError(PAST) from None
        if len(found) != len(self.times):
            raise ValueError(PAST)
        return found

    def prune(self, limit: int) -> int:
        """Removes the entries that are not later than `limit`, and returns how many those were."""
        gone = [key for key, at in zip(self, self.stamps(), strict=True) if at <= limit]
        for key in gone:
            del self[key]
        self.oldest = min(self.times.values(), default=NEVER)
        return len(gone)

    def without(self, limit: int) -> TimedDict:
        """Another one, pruned."""
        rest = TimedDict(self, self.stamps(), self.now)
        rest.prune(limit)
        return rest

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[Any, ...]:
        return dict, (dict(self),)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)

    # ---- what writes

    def _write(self, key: Any) -> None:
        at = self.times[key] = self.now()
        self.oldest = min(self.oldest, at)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._write(key)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        del self.times[key]

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **more: Any) -> None:
        for key, value in dict(*others, **more).items():
            self[key] = value

    def __ior__(self, other: Any) -> TimedDict:  # type: ignore[misc]
        self.update(other)
        return self

    def pop(self, key: Any, *default: Any) -> Any:
        self.times.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[Any, Any]:
        key, value = super().popitem()
        del self.times[key]
        return key, value

    def clear(self) -> None:
        super().clear()
        self.times.clear()


class TimedList(list[Any]):
    """A list whose elements have a time each. See TimedDict; `times` are in the elements' order."""

    __slots__ = ("now", "oldest", "times")

    def __init__(self, value: list[Any], times: Iterable[int], now: Callable[[], int]) -> None:
        super().__init__(value)
        self.times = [at for _, at in zip(value, times, strict=True)]
        self.oldest, self.now = min(self.times, default=NEVER), now

    def plain(self) -> list[Any]:
        return list(self)

    def stamps(self) -> list[int]:
        if len(self.times) != len(self):
            raise ValueError(PAST)
        return self.times

    def prune(self, limit: int) -> int:
        kept = [index for index, at in enumerate(self.stamps()) if at > limit]
        gone = len(self) - len(kept)
        if gone:
            self._take(kept)
        self.oldest = min(self.times, default=NEVER)
        return gone

    def without(self, limit: int) -> TimedList:
        rest = TimedList(self, self.stamps(), self.now)
        rest.prune(limit)
        return rest

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[Any, ...]:
        return list, (list(self),)

    # ---- what writes

    def _take(self, order: list[int]) -> None:
        """These elements, with their times, are all that is in it."""
        elements, self.times = [self[index] for index in order], [self.times[index] for index in order]
        super().__setitem__(slice(None), elements)

    def _written(self, count: int) -> list[int]:
        now = self.now()
        self.oldest = min(self.oldest, now)
        return [now] * count

    def append(self, value: Any) -> None:
        super().append(value)
        self.times += self._written(1)

    def extend(self, values: Iterable[Any]) -> None:
        values = list(values)
        super().extend(values)
        self.times += self._written(len(values))

    def __iadd__(self, values: Iterable[Any]) -> TimedList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, count: SupportsIndex) -> TimedList:
        elements, times = list(self), self.times
        if int(count) < 1:
            self.clear()
        for _ in range(int(count) - 1):
            super().extend(elements)
            self.times = self.times + self._written(len(times))
        return self

    def insert(self, index: SupportsIndex, value: Any) -> None:
        super().insert(index, value)
        self.times[index:index] = self._written(1)

    def __setitem__(self, index: Any, value: Any) -> None:
        values = list(value) if isinstance(index, slice) else value
        super().__setitem__(index, values)
        self.times[index] = self._written(len(values)) if isinstance(index, slice) else self._written(1)[0]

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        del self.times[index]

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = super().pop(index)
        del self.times[index]
        return value

    def remove(self, value: Any) -> None:
        del self[self.index(value)]

    def clear(self) -> None:
        super().clear()
        self.times.clear()

    def reverse(self) -> None:
        self._take(list(reversed(range(len(self)))))

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        elements = list(self)
        by = elements if key is None else list(map(key, elements))
        order = sorted(range(len(by)), key=by.__getitem__, reverse=reverse)
        if len(self) != len(elements) or any(map(is_not, self, elements)):
            raise ValueError("list modified during sort")
        self._take(order)


Timed = TimedDict | TimedList
TIMED: Final = (TimedDict, TimedList)
KINDS: dict[type, type[TimedDict] | type[TimedList]] = {dict: TimedDict, list: TimedList}


def plain_of(value: Any) -> Any:
    """What is kept of a value elsewhere: of one of a table with a TTL per entry a plain copy, for it loses entries."""
    return value.plain() if isinstance(value, TIMED) else value
