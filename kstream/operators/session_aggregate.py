"""Aggregations over sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple, cast

from kstream.codecs import ColumnError, encode_column
from kstream.codecs.spans import bounds_after
from kstream.errors import CodecError, KStreamError
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, rows_at, task_times
from kstream.operators.dropping import LATE, Dropping, Lines
from kstream.operators.emitting import check_results
from kstream.operators.late import LateTopic
from kstream.operators.origin import Origin
from kstream.operators.told import AT_ONCE, NotEncoded, Teller, Telling, ToldOrigin
from kstream.specs.record import EPOCH_IS_NOW
from kstream.specs.sessions import OpenSession, Session
from kstream.state.sessions import Sessions, SessionStore
from kstream.state.watermark import Watermark
from kstream.topology import AggregateNode

Fold = Callable[[Any, Any], Any]


_Result = tuple[bytes, OpenSession[Any], Any]
"""A key, a session, and the result; None takes an earlier one back."""


class Told(NamedTuple):
    """Columns of what is emitted while a batch is folded."""

    indices: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]

    def add(self, index: int, key: bytes, session: OpenSession[Any], value: bytes | None) -> None:
        self.indices.append(index)
        self.keys.append(key + bounds_after(session.until, session.start))
        self.values.append(value)

    def drop(self, index: int) -> None:
        """What the record that was folded last has added."""
        while self.indices and self.indices[-1] == index:
            for column in self:
                column.pop()


class SessionAggregate(Dropping, Closing, Telling):
    """An accumulator for each session of a key.

    A record goes into the open session that is within `gap` of it. Where there are several they are merged first, in
    the order of their starts; where there is none it begins one. A session closes when the time of the task is beyond
    its end, the gap and `grace`. A record that would begin a session which is closed already is left out, and counted.

    Sessions of different keys have nothing to do with each other, so a batch is not cut where some close: to a record
    those of its key that are closed at its time are not there, and what has closed is taken out when the batch is
    through, in the order in which it closed. So how the input was cut does not show.

    Results have the bounds of their session in their keys: its start, and `until`, by which no two sessions of a key
    have both. One whose bounds were told before and have changed is taken back by None, with "update" and "commit".
    Their times are those of the record, with "close" and "commit" the end of the session.
    """

    def __init__(
        self,
        node: AggregateNode,
        store: SessionStore,
        cursor: Cursor | None,
        lines: Lines,
        time: Watermark,
        check_every: int,
        late: LateTopic | None = None,
    ) -> None:
        """`late`: where records go that are too late."""
        super().__init__(lines)
        assert isinstance(node.windows, Session) and node.merge is not None
        self.store, self.initial, self.fold, self.merge, self.cursor = (
            store,
            node.initial,
            node.fold,
            node.merge,
            cursor,
        )
        self._emit, self._check_every = node.emit, check_every
        self._key_codec, self._value_codec = node.key.codec, node.value.codec
        self._gap, self._wait = node.windows.gap, node.windows.gap + node.grace
        self._time, self._late = time, late
        self._told: dict[bytes, bytes | None] = {}  # "commit": what was told last of a key, where not what is committed
        self._told_now: dict[bytes, bytes | None] = {}  # the same, since the last `keep`
        self._kept_told = self._told  # as it was at that
        what = f"the result of a session of {store.name!r}"
        self.teller = Teller(what, self._key_codec, by_key=node.emit == "commit")

    # ---- records

    def push(self, batch: Batch) -> None:
        store = self.store
        if self.leaves_out:
            batch = batch.readable()
        batch, keys = self._sound(batch, store.key_codec)
        store.batch_keys = keys
        store.load(keys)
        told = Told([], [], []) if self._emit == "update" else None
        out = self._fold_column(batch, cast("list[bytes]", keys), told)
        if self.cursor is not None:
            self.cursor.batch = None
        if out:
            store.changed([key for index, key in enumerate(keys) if index not in out])
        else:
            store.changed(keys)
        if told is not None and told.indices:
            check_results(self.store.name, self._value_codec, told.values, self._check_every)
            rows = None if batch.origin is None else [batch.row(index) for index in told.indices]
            stamps = batch.timestamps
            self.emit(
                Batch(
                    len(told.keys), self._key_codec, self._value_codec, origin=batch.origin, rows=rows,
                    raw_keys=told.keys, raw_values=told.values, timestamps=[stamps[index] for index in told.indices],
                )
            )  # fmt: skip

    def _fold_column(self, batch: Batch, keys: list[bytes], told: Told | None) -> set[int]:
        """Folds each value in. Returns the indices of those that were left out."""
        fold, late = self._fold_over(batch), cast("list[int]", [])
        times: Iterable[int] = task_times(batch, self._time.now)
        values, failed = iter(batch.values), cast("list[int]", [])
        rest = zip(count(), keys, values, batch.timestamps, times)  # `count` has no end
        while True:
            try:
                self._fold_rest(fold, rest, told, late)
                break
            except BaseException as error:
                index = batch.blame_last(values)
                if not self._goes_on(batch, keys, index, error):
                    raise
                failed.append(index)
                if told is not None:
                    told.drop(index)
        if late:
            self._too_late(batch, late)
        return {*late, *failed}

    def _too_late(self, batch: Batch, indices: list[int]) -> None:
        self._left_out(LATE, len(indices))
        if self._late is not None:
            self._late.write_of(batch, indices, self._time.now, self._wait + 1)

    def _fold_rest(
        self, fold: Fold, rest: Iterator[tuple[int, bytes, Any, int, int]], told: Told | None, late: list[int]
    ) -> None:
        live, gap, wait, cursor = self.store.live, self._gap, self._wait, self.cursor
        for index, key, value, at, now in rest:
            if cursor is not None:
                cursor.index = index
            sessions, oldest = live[key], now - wait
            if sessions is None:
                if at < oldest:
                    late.append(index)
                    continue
                last = self._begun(key, at, self._result(fold(self.initial(), value)))
            # most often the last one grows: no other is within the gap of a record behind its start
            elif (last := sessions[-1]).start <= at <= last.end + gap and last.end >= oldest:
                result = fold(last.value, value)
                if result is None:
                    raise self._returned_none()
                if told is not None and at > last.end:
                    told.add(index, key, last, None)
                last.value = result
                if at > last.end:
                    last.end = at
            else:
                found = self._other(fold, key, sessions, value, at, oldest, index, told)
                if found is None:
                    late.append(index)
                    continue
                last = found
            if not at and not last.end and told is None:
                raise CodecError(f"the result of a session of {self.store.name!r}: {EPOCH_IS_NOW}")
            if told is not None:
                told.add(index, key, last, self._value_codec.encode(last.value))

    def _other(
        self, fold: Fold, key: bytes, sessions: Sessions, value: Any, at: int, oldest: int, index: int,
        told: Told | None,
    ) -> OpenSession[Any] | None:  # fmt: skip
        """The session that the value went into, where that is not simply the last; None: it is too late."""
        gap = self._gap
        touched = [
            session for session in sessions if session.start - gap <= at <= session.end + gap and session.end >= oldest
        ]
        if not touched:
            return None if at < oldest else self._begun(key, at, self._result(fold(self.initial(), value)))
        until = max(at, touched[-1].end)
        return self._merged(fold, key, sessions, touched, value, at, until, index, told)

    def _merged(
        self, fold: Fold, key: bytes, sessions: Sessions, touched: Sessions, value: Any, at: int, until: int,
        index: int, told: Told | None,
    ) -> OpenSession[Any]:  # fmt: skip
        """The session that these become with the value; `until` is then its own."""
        first, last, value_before = touched[0], touched[-1], touched[0].value
        for other in touched[1:]:
            value_before = self._result(self.merge(value_before, other.value))
        result = self._result(fold(value_before, value))
        start, end = min(first.start, at), max(last.end, at)
        if told is not None:
            for session in touched:
                if _bounds(session) != (start, until):
                    told.add(index, key, session, None)
        first.start, first.end, first.value = start, end, result
        if len(touched) > 1:
            gone = {id(other) for other in touched[1:]}
            self.store.live[key] = [session for session in sessions if id(session) not in gone]
        return first

    def _begun(self, key: bytes, at: int, result: Any) -> OpenSession[Any]:
        return self._added(key, OpenSession(at, at, result))

    def _added(self, key: bytes, begun: OpenSession[Any]) -> OpenSession[Any]:
        live = self.store.live
        sessions = live[key]
        if sessions is None:
            live[key] = [begun]
        else:
            sessions.append(begun)
            sessions.sort(key=attrgetter("start"))
        self.store.begun(key, begun.until)
        return begun

    def _result(self, result: Any) -> Any:
        if result is None:
            raise self._returned_none()
        return result

    def _returned_none(self) -> KStreamError:
        return KStreamError(
            f"a function of {self.store.name!r} returned None: a fold and merge= return the accumulator, the others a "
            "value"
        )

    def _fold_over(self, batch: Batch) -> Fold:
        if self.cursor is None:
            return self.fold
        cursor, fold = self.cursor, self.fold
        cursor.batch = batch
        return lambda accumulator, value: fold(accumulator, value, cursor)

    def _goes_on(self, batch: Batch, keys: list[bytes], index: int, error: BaseException) -> bool:
        """Behind a record that failed: the sessions of its key are what they were before, if that is known."""
        key = keys[index]
        return (
            self.leaves_out
            and keys.index(key) == index  # else what records before it in the batch did would be gone too
            and self.store.take_back([key])
            and batch.leaves_out(index, error)
        )

    # ---- sessions that close

    def closes_by(self, time: int) -> bool:
        first = self.store.first_place()
        return first is not None and first + self._wait < time

    def time_passed(self, origin: Origin | None) -> None:
        for closed in self.store.over(self._time.now - self._wait, AT_ONCE):
            if self._emit == "close":
                self._tell([(key, session, session.value) for key, session in closed], origin)
            elif self._emit == "commit":
                self._tell(list(self._news(closed)), origin)

    def _news(self, closed: Sequence[tuple[bytes, OpenSession[Any]]]) -> Iterator[_Result]:
        """Of sessions that will not be there at the commit: what was not told yet."""
        told = self._last_told({key for key, _ in closed})
        for key, session in closed:
            yield from self._changes(key, session, told[key])
            told[key] = [one for one in told[key] if not _within(one, session)]
        encode = self.store.value_codec.encode
        self._told_now.update({key: encode(sessions) if sessions else None for key, sessions in told.items()})

    def _changes(self, key: bytes, session: OpenSession[Any], told: Sessions) -> Iterator[_Result]:
        """What is to be told of a session, where this was told of its key."""
        encode = self._value_codec.encode
        merged = [one for one in told if _within(one, session)]
        same = next((one for one in merged if _bounds(one) == _bounds(session)), None)
        if same is None or encode(same.value) != encode(session.value):
            yield from ((key, one, None) for one in merged if one is not same)
            yield key, session, session.value

    def _last_told(self, keys: set[bytes]) -> dict[bytes, Sessions]:
        """What was told last of each of these keys: with each commit, all that is committed."""
        now, before, decode = self._told_now, self._told, self.store.value_codec.decode
        found: dict[bytes, Sessions] = {}
        for told in (before, now):
            for key in keys & told.keys():
                raw = told[key]
                found[key] = [] if raw is None else decode(raw)
        return found | self.store.committed_sessions(keys - found.keys())

    def _tell(self, results: Sequence[_Result], origin: Origin | None) -> None:
        if not results:
            return
        codec, beyond = self._value_codec, self._wait + 1
        rows = rows_at(origin, (session.until + beyond for _, session, _ in results))
        keys = [key + bounds_after(session.until, session.start) for key, session, _ in results]
        over = self._emit == "close"
        stamps = [session.until if over else session.end for _, session, _ in results]

        def raw(place: int) -> bytes | None:
            value = results[place][2]
            try:
                return None if value is None else codec.encode(value)
            except Exception:
                raise NotEncoded(value) from None

        def push(told: ToldOrigin, places: Sequence[int]) -> None:
            try:
                encoded = encode_column(codec, [results[place][2] for place in places], self._check_every)
            except ColumnError as error:
                told.at_fault = places[error.index]
                raise
            self.emit(
                Batch(
                    len(places), self._key_codec, codec, origin=told, rows=places,
                    raw_keys=[keys[place] for place in places], raw_values=encoded,
                    timestamps=[stamps[place] for place in places],
                )
            )  # fmt: skip

        self.teller.tell(keys, raw, stamps, origin, rows, push)

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        self.time_passed(None)  # records that were left out moved time too, and idle inputs
        if self._emit == "commit":
            changed = self.store.encode_changes()
            told, live = self._last_told(set(changed)), self.store.live
            results = [
                result
                for key in changed
                for session in live[key] or ()
                for result in self._changes(key, session, told[key])
            ]
            self._told, self._told_now = dict(changed), {}  # `_kept_told` is what it was
            self._tell(results, None)
        super().flush()

    def keep(self) -> None:
        super().keep()
        self._told.update(self._told_now)
        self._told_now, self._kept_told = {}, self._told

    def take_back(self) -> bool:
        self._told, self._told_now = self._kept_told, {}
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._told, self._told_now = {}, {}
        self._kept_told = self._told


def _within(one: OpenSession[Any], other: OpenSession[Any]) -> bool:
    """Whether one session is a part of the other, or became it."""
    return other.start <= one.start and one.until <= other.until


def _bounds(session: OpenSession[Any]) -> tuple[int, int]:
    return session.start, session.until
