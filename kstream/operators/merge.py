"""merge: the records of several streams become one."""

from __future__ import annotations

from functools import partial
from itertools import groupby

from kstream.operators.base import Operator, Push
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.operators.told import ToldOrigin, of_what


class Merge(Operator):
    """Passes on what its inputs give.

    Args:
        meets: records of one source come by several ways. Then what the ways give of a batch is held until `release`,
            and put in the order of the records that it was made of: that it was a batch does not show.
    """

    def __init__(self, *, meets: bool) -> None:
        super().__init__()
        self._meets = meets
        self._held: dict[int, list[Batch]] = {}

    def push(self, batch: Batch) -> None:
        self._take(0, batch)

    def input(self, place: int) -> Push:
        return partial(self._take, place)

    def _take(self, place: int, batch: Batch) -> None:
        if self._meets and batch.origin is not None and not batch.origin.timeless:
            self._held.setdefault(place, []).append(batch)
        else:
            self.emit(batch)

    def through(self, origin: Origin | None) -> None:
        """See Waiting."""
        if not self._held:
            return
        held = [batch for _, batches in sorted(self._held.items()) for batch in batches]
        self._held = {}
        if len(held) == 1:
            self._pass_on(held[0])
            return
        places = sorted(
            ((batch.place(index), at, index) for at, batch in enumerate(held) for index in range(batch.size))
        )  # fmt: skip
        forms = [batch.form for batch in held]
        # What is encoded stays so, and what is not is not: a record goes on as it would alone.
        for _, run in groupby(places, lambda place: forms[place[1]]):
            self._pass_on(Batch.joined([(held[at], index) for _, at, index in run]))

    def _pass_on(self, batch: Batch) -> None:
        """What fails with results that no record is behind is their failure, as where they were put out."""
        told = batch.origin if isinstance(batch.origin, ToldOrigin) else None
        if told is None:
            self.emit(batch)
            return
        size = 1 if told.teller.singly else batch.size
        for start in range(0, batch.size, size):
            told.at_fault = batch.row(start) if size == 1 else None
            try:
                self.emit(batch.cut(start, start + size))
            except BaseException as error:
                if (found := of_what(batch, error)) is error:
                    raise
                raise found from found.__cause__

    def take_back(self) -> bool:
        self._held = {}
        return super().take_back()

    def reset(self) -> None:
        self._held = {}
        super().reset()
