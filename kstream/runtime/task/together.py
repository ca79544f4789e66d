"""Records of several inputs that alternate, taken together.

A task reads the input whose next record is earliest. Where the records of two topics alternate, that gives batches of
one or two, at ten times the cost of a record. In a part of the app that only changes, filters and writes records
(`neighbours.by_input`), a record makes no difference to another one, and only what is written shows an order. So what
would come in many batches is taken as one (`mixed.py`), is pushed by input, and what it causes goes out in the order of
the batches that it would have come in (`operators/writer.py`).
"""

from __future__ import annotations

from kstream.plan import TaskPlan
from kstream.runtime.task.mixed import Mixed, as_one
from kstream.runtime.task.reading import Reading
from kstream.runtime.task.verdicts import Verdicts
from kstream.types import Fetch


class Together:
    """Of one task, whose plan goes `by_input`."""

    def __init__(self, plan: TaskPlan, reading: Reading, verdicts: Verdicts) -> None:
        self._plan, self._reading, self._verdicts = plan, reading, verdicts

    def with_next(self, first: Fetch, size: int) -> Fetch:
        """These records, which were taken, and those that come next, `size` of them together at most, up to one about
        which something is decided: that comes alone.

        A record by which an idle input holds time back again is the last of them: of the others, what comes behind it
        must not move time on as if there were none."""
        pieces, total, fetch = [first], len(first), first
        if not self._sound(first):
            return first
        asleep = () if self._plan.watermark is None else self._plan.watermark.asleep
        while total < size and fetch.at.topic not in asleep:
            if (following := self._reading.take(size - total)) is None:
                break
            if not (sound := self._sound(following)):
                self._reading.put_back(following)
                break
            fetch = self._reading.cut(following, sound)
            pieces.append(fetch)
            total += len(fetch)
        mixed = any(piece.at != first.at for piece in pieces)
        return Mixed(pieces) if mixed else as_one(pieces)

    def _sound(self, fetch: Fetch) -> int:
        return self._verdicts.sound(fetch) if self._verdicts else len(fetch)
