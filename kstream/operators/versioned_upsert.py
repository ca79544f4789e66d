"""to_table(history=): the versions of each key, by their times."""

from __future__ import annotations

from itertools import compress
from typing import cast

from kstream.codecs import SAMPLE
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, task_times
from kstream.operators.dropping import LATE, Lines
from kstream.operators.origin import Origin
from kstream.operators.upsert import Upsert
from kstream.state.store import Store
from kstream.state.versions import VersionStore
from kstream.state.watermark import UNKNOWN, Watermark

REMOVED = 10_000
"""Entries that a commit removes, and two more for each record: so what is over leaves as fast as it came, in pieces."""


class VersionedUpsert(Upsert, Closing):
    """Keeps each version, and does with the latest of a key as `Upsert` does. One of an earlier time changes only what
    was valid then. One that comes more than `history` (ms) after its time, by that of the task, is left out."""

    def __init__(
        self,
        store: Store[object],
        versions: VersionStore,
        history: int,
        watermark: Watermark,
        lines: Lines,
        check_every: int = SAMPLE,
    ) -> None:
        super().__init__(store, lines, check_every)
        self.versions, self._history, self._watermark = versions, history, watermark
        self._pushed = 0  # since the last commit

    def push(self, batch: Batch) -> None:
        store, versions, history = self.store, self.versions, self._history
        batch, keys = self._keyed(batch, store.key_codec)
        if not batch.size:
            return
        encoded = self._encoded(batch)
        versions.load_heads(keys)
        late, latest = 0, list[bool]()
        times = task_times(batch, self._watermark.now)
        for key, value, raw, at, now in zip(keys, batch.values, encoded, batch.timestamps, times, strict=True):
            if at < now - history:
                late += 1
                latest.append(False)
            else:
                raw = None if value is None else raw
                latest.append(versions.add(cast("bytes", key), at, raw, now - history))
        self._left_out(LATE, late)
        self._pushed += batch.size
        if not all(latest):
            batch, keys, encoded = batch.where(latest), list(compress(keys, latest)), list(compress(encoded, latest))
        if batch.size:
            store.load(keys)
            self._put(batch, keys, encoded)

    # ---- what nobody asks for any more

    def time_passed(self, origin: Origin | None) -> None:
        pass  # nothing comes of it: what is over leaves before the commit

    def closes_by(self, time: int) -> bool:
        first = self.versions.first()
        return first is not None and first <= time - self._history

    def flush(self) -> None:
        now = self._watermark.now
        if now != UNKNOWN:
            self.versions.remove_before(now - self._history, REMOVED + 2 * self._pushed)
        self._pushed = 0
        super().flush()
