"""Records that were there before are left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, cast

from kstream.codecs import ColumnError, encode_keys, holds_none
from kstream.codecs.timers import key_with_id
from kstream.codecs.windowed import start_in, stored_start
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, task_times
from kstream.operators.dropping import DUPLICATE, LATE, Dropping, Lines
from kstream.operators.origin import Origin
from kstream.operators.stateless import apply
from kstream.operators.told import AT_ONCE
from kstream.state.store import Store
from kstream.state.watermark import Watermark
from kstream.state.windows import WindowStore
from kstream.table_nodes import DeduplicateNode

_Places = tuple[bytes, bytes, bytes]
"""Where a record that was passed on may lie: in the span of time before, in that of the record, in the one behind."""


class Deduplicate(Dropping, Closing):
    """Passes on a record unless one of the same identity was passed on whose event time is less than `within` (ms) from
    its own, before or behind.

    What was passed on lies in the store by spans of time, each as long as `within`, so a span has one record of an
    identity at most, and what can be met no more is a range. A record whose time is `within` or more before that of
    the task is late: it may have been there before, and is left out.
    """

    def __init__(self, node: DeduplicateNode, store: Store[Any], time: Watermark | None, lines: Lines) -> None:
        super().__init__(lines)
        assert isinstance(store, WindowStore) and time is not None
        self.store, self._time, self._within = store, time, node.within
        self._by, self._id_codec, self._key_codec = node.by, node.ids.codec, node.key.codec
        self._closed: int | None = None  # spans up to this one are gone; None: not known since a restart
        self._kept_closed: int | None = None

    # ---- records

    def push(self, batch: Batch) -> None:
        store, within = self.store, self._within
        if self._by is None:
            ids: Sequence[bytes | None]
            batch, ids = self._keyed(batch, self._key_codec)
        else:
            ids = self._ids(batch)
        stamps, times = batch.timestamps, task_times(batch, self._time.now)
        spans = [at // within for at in stamps]
        begins = {
            span: (stored_start((span - 1) * within), stored_start(span * within), stored_start((span + 1) * within))
            for span in set(spans)
        }
        places: list[_Places | None] = []
        for span, one in zip(spans, ids, strict=True):
            if one is None:
                places.append(None)
            else:
                before, here, behind = begins[span]
                places.append((before + one, here + one, behind + one))
        store.load(list(chain.from_iterable(place for place in places if place is not None)))
        live, passed, late = store.live, cast("list[bytes]", []), 0
        mask: list[bool] = []
        for place, at, now in zip(places, stamps, times, strict=True):
            good = True
            if place is not None:
                if at <= now - within:
                    late += 1
                    good = False
                else:
                    for one in place:
                        seen = live[one]
                        if seen is not None and -within < at - seen < within:
                            good = False
                            break
                    else:
                        live[place[1]] = at
                        passed.append(place[1])
            mask.append(good)
        if passed:
            store.changed(passed)
        if not all(mask):
            self._left_out(LATE, late)
            self._left_out(DUPLICATE, mask.count(False) - late)
            batch = batch.where(mask)
        self.emit(batch)

    def _ids(self, batch: Batch) -> list[bytes | None]:
        by: Any = self._by

        def identified(value: Any) -> Any:
            return None if value is None else by(value)

        nullable = holds_none(batch.value_codec) and None in batch.values
        _, found = apply(identified if nullable else by, None, batch, of=by)
        try:
            encoded = encode_keys(self._id_codec, found)
        except ColumnError as error:
            batch.blame(error.index)
            text = f"what deduplicate of {self.store.name!r} is given: {error}"
            raise ColumnError(text, error.index) from error.__cause__ or error
        pairs = zip(batch.encoded_keys(self._key_codec), encoded, strict=True)
        return [None if one is None else key_with_id(key, one) for key, one in pairs]

    # ---- what can be met no more

    def closes_by(self, time: int) -> bool:
        first = self.store.first()
        return first is not None and start_in(first) + 3 * self._within <= time

    def time_passed(self, origin: Origin | None) -> None:
        """What is in time is later than `within` before the time of the task, and meets what is later than `within`
        before itself; the span of that begins less than `within` before."""
        within = self._within
        over = (self._time.now - 3 * within) // within
        if self._closed is not None and over <= self._closed:
            return
        self._closed = over
        due = self.store.before(stored_start(over * within + 1))
        while entries := list(islice(due, AT_ONCE)):
            for key, _ in entries:
                self.store.delete(key)

    def flush(self) -> None:
        self.time_passed(None)
        super().flush()

    def keep(self) -> None:
        super().keep()
        self._kept_closed = self._closed

    def take_back(self) -> bool:
        self._closed = self._kept_closed
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._closed = self._kept_closed = None
