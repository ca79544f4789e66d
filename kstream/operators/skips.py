"""Timers that a policy leaves out."""

from __future__ import annotations

from collections import Counter


class Skips:
    """Of one processor. Each is for one firing: the timer may be set anew for the same time. What was used is given
    back where the batch or transaction is taken back, for then the timer is due again."""

    def __init__(self) -> None:
        self._left: Counter[bytes] = Counter()
        self._used: Counter[bytes] = Counter()  # since the last commit
        self._kept: Counter[bytes] = Counter()  # and before the batch at hand

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, entry: bytes) -> None:
        """This entry of the timers is left out, once."""
        self._left[entry] += 1

    def takes(self, entry: bytes) -> bool:
        """Whether the timer that is due now is left out."""
        if entry not in self._left:
            return False
        self._left -= Counter([entry])
        self._used[entry] += 1
        return True

    def clear(self) -> None:
        """All that was due is fired."""
        self._left.clear()

    def keep(self) -> None:
        if self._used or self._kept:
            self._kept = self._used.copy()

    def take_back(self) -> None:
        self._again(self._kept)

    def reset(self) -> None:
        self._again(Counter())

    def committed(self) -> None:
        if self._used:
            self._used, self._kept = Counter(), Counter()

    def _again(self, used: Counter[bytes]) -> None:
        self._left += self._used - used
        self._used, self._kept = used.copy(), used
