"""Results that are put out without a record: a window closes, a timer fires, a commit comes, nothing was found in time.

No input record is at fault where what is done with one of them fails. So they are an origin of their own, whose rows
they are: the step that fails on one blames it as it would blame a record, and the policies decide about the result. A
decision is remembered by what the result is (key, time, value) until it is committed, for it is put out anew where
what was done is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from kstream.codecs import Codec
from kstream.errors import ResultFailed, StateError, TransactionError, text_of
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.bounds import NONE
from kstream.operators.origin import Origin
from kstream.operators.raised import fair
from kstream.operators.writer import AFTER_ALL, Writer

AT_ONCE: Final = 10_000
"""Results that are due together go on in batches of so many."""
SHOWN: Final = 32_768
"""Characters of a value that is shown at most."""
SEVERAL: Final = 3
"""Of one key, after so many decisions since the last commit the last one holds whatever its value is: a commit that
comes at another record each time would tell another value, and the task would not get on. So it is with a value that is
another each time: one with the wall clock in it, or of a random number."""


class OthersFailed(Exception):
    """What waited before a result was passed on has failed, as the cause says: records, which are looked for."""


PASSES: Final = (TransactionError, StateError, ResultFailed, OthersFailed, KeyboardInterrupt)
"""What is no failure of the result at hand."""

Push = Callable[["ToldOrigin", Sequence[int]], None]
"""Passes on the results at these places."""


class Result(NamedTuple):
    """What it is told by from others.

    Attributes:
        key, value: encoded, as the step has them; a value that cannot be encoded is None. Where it is another each time
            the result is put out, the value is its place among those of this key and time.
        at: its time, in ms since the epoch.
    """

    key: bytes | None
    at: int
    value: bytes | None


class NotEncoded(Exception):
    """A value cannot be encoded; the text is what Python shows of it."""

    def __init__(self, value: object) -> None:
        try:
            shown = repr(value)[:SHOWN]
        except KeyboardInterrupt:
            raise
        except BaseException:  # of the user's class
            shown = f"{type(value).__name__} (it cannot be shown)"
        super().__init__(shown)


class LeavesOut(Protocol):
    """A verdict: the result is left out."""

    def write_result(self, origin: ToldOrigin, row: int, writer: Writer) -> None:
        """Its dead letter, where it has one."""
        ...


class ToldFailed(ResultFailed):
    """What is done with a result has failed; its cause is what was raised.

    Attributes:
        teller: of the step that put it out.
        failed: which one it is, and the place of it in its origin; None: one of several.
    """

    def __init__(self, teller: Teller, origin: ToldOrigin | None, row: int | None, cause: BaseException) -> None:
        self.teller, self.origin, self.row = teller, origin, row
        self.failed: Result | None = None
        which = ""
        if origin is not None and row is not None:
            self.failed = teller.result(origin, row)
            which = f" (key {teller.shown(origin.keys[row])}, time {origin.stamps[row]})"
        super().__init__(f"processing {teller.what} failed: {text_of(cause, repr)}{which}")


class ToldOrigin(Origin):
    """Results that are told together. They have no topic, no headers and no offset.

    Args:
        raw: the encoded value of the one at a place; may raise.
        moved: the batch that moved time to where they are told, and `rows` the record of it that did, for each: that is
            where they have their place in the order, and what time it is. None: it was no batch.

    Attributes:
        places: in the order of what goes out.
    """

    __slots__ = ("keys", "raw", "stamps", "teller", "timeless")
    of_time = True

    def __init__(
        self,
        teller: Teller,
        keys: Sequence[bytes | None],
        raw: Callable[[int], bytes | None],
        stamps: Sequence[int],
        moved: Origin | None,
        rows: Sequence[int] | None,
    ) -> None:
        self.teller, self.keys, self.raw, self.stamps = teller, keys, raw, stamps
        count = len(keys)
        self.times, self.watermarks = [], []
        self.timeless = moved is None or moved.timeless
        if moved is None or rows is None:
            self.places = [AFTER_ALL] * count
        else:
            self.fetch, self.places = moved.fetch, moved.places_of(rows)
            if moved.times:
                self.times = [moved.times[row] for row in rows]
            if moved.watermarks:
                self.watermarks = [moved.watermarks[row] for row in rows]
        self.topic, self.bounds, self.event_time = "", NONE if moved is None else moved.bounds, True
        self.at_fault, self.singly, self.leave_out = None, False, None
        self._timestamps = list(stamps)
        self._headers, self._offsets = [None] * count, [-1] * count

    def failed(self, error: BaseException) -> ToldFailed:
        """What to raise where something is done with them that raises this."""
        row = self.at_fault
        if row is None and len(self.keys) == 1:
            row = 0
        return ToldFailed(self.teller, self, row, error)

    def blamed(self, row: int, error: BaseException) -> ToldFailed:
        """The failure of the result at this place."""
        return ToldFailed(self.teller, self, row, error)


class Telling(Operator):
    """Puts out such results."""

    teller: Teller


class Teller:
    """Of one step that puts out such results.

    Args:
        what: they are, as in "the result of a window of 'n'".
        key_codec: of their keys.
        by_key: a key has one result a commit, of whatever value it has then.

    Attributes:
        writer: where dead letters go.
        singly: they are passed on one at a time, for one of them has failed and it is not known which.
        rests_until: one has failed, and is tried again then (monotonic): time does not go on before.
        leave_out: asked about a result with which nothing was done before it failed: whether the others go on without
            it. None: not.
    """

    def __init__(self, what: str, key_codec: Codec[Any], *, by_key: bool = False) -> None:
        self.what, self._key_codec, self.by_key = what, key_codec, by_key
        self.writer: Writer | None = None
        self.singly = False
        self.rests_until = 0.0
        self.leave_out: Callable[[ToldOrigin, int, BaseException], bool] | None = None
        self._out: dict[Result, list[LeavesOut]] = {}  # what was decided, for as many equal ones
        self._decided: Counter[bytes | None] = Counter()  # how often since the last commit, by key
        self._used: list[tuple[Result, LeavesOut]] = []  # since the last commit
        self._kept = 0  # of these, by `keep`
        self._varying: set[tuple[bytes | None, int]] = set()  # keys and times of those with another value each time

    def tell(
        self,
        keys: Sequence[bytes | None],
        raw: Callable[[int], bytes | None],
        stamps: Sequence[int],
        moved: Origin | None,
        rows: Sequence[int] | None,
        push: Push,
    ) -> None:
        """Passes on results. The arguments are those of ToldOrigin.

        Raises:
            ToldFailed: what is done with one of them fails.
        """
        origin = ToldOrigin(self, keys, raw, stamps, moved, rows)
        places: Sequence[int] = range(len(keys))
        if self.leave_out is not None:
            leave_out = self.leave_out
            origin.leave_out = lambda row, error: leave_out(origin, row, error)
        if self._out:
            places = self._left(origin)
        if self.singly:
            for place in places:
                origin.at_fault = place
                self._push(origin, [place], push)
        elif places:
            self._push(origin, places, push)

    def tell_encoded(
        self,
        value_codec: Codec[Any],
        keys: Sequence[bytes | None],
        raw: Sequence[bytes | None],
        stamps: Sequence[int],
        moved: Origin | None,
        rows: Sequence[int] | None,
        emit: Callable[[Batch], None],
    ) -> None:
        """The same of results that are encoded, to one who takes batches."""

        def push(origin: ToldOrigin, places: Sequence[int]) -> None:
            some: Any = keys, raw, stamps  # lists all
            if len(places) < len(keys):
                some = [keys[at] for at in places], [raw[at] for at in places], [stamps[at] for at in places]
            emit(
                Batch(
                    len(places), self._key_codec, value_codec, origin=origin, rows=places, raw_keys=some[0],
                    raw_values=some[1], timestamps=some[2],
                )
            )  # fmt: skip

        self.tell(keys, raw.__getitem__, stamps, moved, rows, push)

    def _push(self, origin: ToldOrigin, places: Sequence[int], push: Push) -> None:
        try:
            push(origin, places)
        except BaseException as raised:  # `sys.exit`, too
            if isinstance(error := fair(raised), PASSES):
                raise
            raise origin.failed(error) from error

    def _left(self, origin: ToldOrigin) -> Sequence[int]:
        """Those that are not left out; what becomes of the others is written."""
        keys = {one.key for one in self._out}
        left = []
        for place, key in enumerate(origin.keys):
            if key not in keys or (verdict := self._take(self.result(origin, place))) is None:
                left.append(place)
            else:
                assert self.writer is not None
                verdict.write_result(origin, place, self.writer)
        return left

    def _take(self, result: Result) -> LeavesOut | None:
        found = result
        if result not in self._out:
            if not self.by_key or self._decided[result.key] < SEVERAL:
                return None
            found = next((one for one in reversed(self._out) if one.key == result.key), result)
        verdicts = self._out.get(found)
        if not verdicts:
            return None
        verdict = verdicts.pop()
        if not verdicts:
            del self._out[found]
        self._used.append((found, verdict))
        return verdict

    def result(self, origin: ToldOrigin, row: int) -> Result:
        key, at = origin.keys[row], origin.stamps[row]
        if (key, at) in self._varying:
            return Result(key, at, b"%d" % self._nth(origin, row))
        try:
            raw = origin.raw(row)
        except NotEncoded:
            raw = None
        return Result(key, at, raw)

    def _nth(self, origin: ToldOrigin, row: int) -> int:
        """Of those of its key and time."""
        keys, stamps = origin.keys, origin.stamps
        return sum(keys[one] == keys[row] and stamps[one] == stamps[row] for one in range(row))

    # ---- what was decided

    def alike(self, origin: ToldOrigin, row: int) -> Hashable:
        """By which it is known when it is put out again, to be tried once more. Its value may be another then."""
        key = origin.keys[row]
        return key if self.by_key else (key, origin.stamps[row], self._nth(origin, row))

    def varies(self, result: Result) -> bool:
        """Whether what was decided about it is about another value each time, and is never heard of again. From now on
        it is told by its place."""
        of = result[:2]
        if self.by_key or of in self._varying:
            return False
        stale = [one for one in self._out if one[:2] == of]  # all that were put out with it are taken
        if len(stale) < SEVERAL:
            return False
        for one in stale:
            del self._out[one]
        self._varying.add(of)
        return True

    def leaves_out(self, result: Result, verdict: LeavesOut, *, now: bool = False) -> None:
        """The result is left out when it is put out again; or was `now`."""
        self._decided[result.key] += not now  # that has held nothing up
        if now:
            self._used.append((result, verdict))
        else:
            self._out.setdefault(result, []).append(verdict)

    @property
    def pending(self) -> bool:
        """Whether one that is left out is to come again, or which one failed is to be seen."""
        return self.singly or bool(self._out)

    def before(self, result: Result) -> LeavesOut | None:
        """The verdict by which it was left out, where that failed."""
        return next((verdict for one, verdict in reversed(self._used) if one == result), None)

    def forget(self, result: Result) -> None:
        """It is put out again."""
        self._used = [one for one in self._used if one[0] != result]
        self._out.pop(result, None)
        self._kept = min(self._kept, len(self._used))

    def keep(self) -> None:
        """What was done until now stays."""
        self._kept = len(self._used)

    def take_back(self) -> None:
        """Since `keep`. The results come again."""
        self._again(self._kept)

    def reset(self) -> None:
        """The same, of everything since the last commit."""
        self._again(0)
        self._kept = 0

    def _again(self, kept: int) -> None:
        if len(self._used) > kept:
            for result, verdict in self._used[kept:]:
                self._out.setdefault(result, []).append(verdict)
            del self._used[kept:]

    def committed(self, *, rests: bool = False) -> list[LeavesOut]:
        """Everything is; where the task `rests` for a result, not those that come again with it. Returns what was left
        out of it."""
        self.singly = False
        if not self._decided:
            return []
        done = [verdict for _, verdict in self._used]
        self._used, self._kept = [], 0
        if not rests:
            self._out = {}
            self._decided.clear()
            self._varying.clear()
        return done

    # ---- how they are shown

    def shown(self, key: bytes | None) -> str:
        """A key, as messages have it."""
        try:
            return "none" if key is None else repr(self._key_codec.decode(key))
        except Exception:
            return repr(key)

    def key_in_topics(self, key: bytes | None) -> bytes | None:
        """As it would be written."""
        form: Any = getattr(self._key_codec, "to_topic", None)
        return key if key is None or form is None else form(key)


def of_others(error: BaseException) -> BaseException:
    """The same; of what waited before a result, its own failure."""
    return error.__cause__ if isinstance(error, OthersFailed) and error.__cause__ is not None else error


def of_what(batch: Batch | None, error: BaseException) -> BaseException:
    """What to raise where something fails with a batch later than it was pushed: of results, their failure."""
    origin, error = None if batch is None else batch.origin, fair(error)
    if not isinstance(origin, ToldOrigin) or isinstance(error, PASSES):
        return error
    failed = origin.failed(error)
    failed.__cause__ = error
    return failed
