"""Aggregations over sessions each of whose records says its gap."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, cast

from kstream.errors import CodecError, KStreamError
from kstream.operators.batch import Batch
from kstream.operators.closing import task_times
from kstream.operators.dropping import LATE
from kstream.operators.session_aggregate import Fold, SessionAggregate, Told
from kstream.specs.fields import LONGEST
from kstream.specs.record import EPOCH_IS_NOW
from kstream.specs.sessions import Session, VaryingSession
from kstream.topology import AggregateNode

_MS: Final = timedelta(milliseconds=1)


class VaryingSessions(SessionAggregate):
    """A `SessionAggregate` whose records are each in a session from their time on for as long as they say (Flink's
    dynamic gap). Those that overlap or touch are one.

    Their bounds go to the last time at which a record could come to them, as those of Flink's windows have the gap in
    them: a session may be closed when a record of the same time and a longer gap comes, which begins another one. That
    is the time of a result that is told when a session closes, too. The last record may lie any time before.
    """

    def __init__(self, node: AggregateNode, *others: Any) -> None:
        super().__init__(node, *others)
        assert isinstance(node.windows, Session) and node.windows.gap_of is not None
        self._gap_of = node.windows.gap_of

    def _fold_rest(
        self, fold: Fold, rest: Iterator[tuple[int, bytes, Any, int, int]], told: Told | None, late: list[int]
    ) -> None:
        live, wait, cursor = self.store.live, self._wait, self.cursor
        for index, key, value, at, now in rest:
            if cursor is not None:
                cursor.index = index
            until, oldest, sessions = at + self._gap_at(value), now - wait, live[key] or []
            touched = [one for one in sessions if one.start <= until and at <= one.until and one.until >= oldest]
            if touched:
                until = max(until, *(one.until for one in touched))
                merged = self._merged(fold, key, sessions, touched, value, at, until, index, told)
                found = cast("VaryingSession[Any]", merged)
                found.until = until
            elif until < oldest:
                late.append(index)
                continue
            else:
                found = VaryingSession(at, at, self._result(fold(self.initial(), value)), until)
                self._added(key, found)
            if not at and not found.end and self._emit == "commit":
                raise CodecError(f"the result of a session of {self.store.name!r}: {EPOCH_IS_NOW}")
            if told is not None:
                told.add(index, key, found, self._value_codec.encode(found.value))

    def _gap_at(self, value: Any) -> int:
        """In ms. Raises KStreamError where the function returns none that ends."""
        found: Any = self._gap_of(value)
        if not isinstance(found, timedelta) or not _MS <= found <= LONGEST:
            raise KStreamError(
                f"gap_of= of the sessions {self.store.name!r} returned {found!r}: it returns a timedelta, from 1 ms to "
                "10,000 years"
            )
        return found // _MS

    def _too_late(self, batch: Batch, indices: list[int]) -> None:
        self._left_out(LATE, len(indices))
        if self._late is None:
            return
        out = set(indices)
        late = batch.where([index in out for index in range(batch.size)])
        rows = zip(task_times(late, self._time.now), late.timestamps, late.values, strict=True)
        self._late.write(late, [now - at - self._gap_at(value) - self._wait - 1 for now, at, value in rows])
