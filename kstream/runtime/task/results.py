"""Results that no record is behind (operators/told.py) and that failed, and what policies make of them: tried again,
left out, or the task stops."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Final

from kstream.errors import RecordRefused, ResultFailed
from kstream.operators.raised import fair
from kstream.operators.refusals import Suspected
from kstream.operators.told import PASSES, LeavesOut, NotEncoded, Teller, ToldFailed, ToldOrigin
from kstream.operators.writer import Refused
from kstream.plan import TaskPlan
from kstream.runtime.task.blame import cause_of, raised_in
from kstream.runtime.task.deciding import Deciding
from kstream.runtime.task.verdicts import TOO_LARGE, Again, LeftOut
from kstream.types import Clock

VALUE: Final = "kstream.result.value"
"""Of a letter whose value is no more than a text about it."""


class FailedResults:
    """Of one task. What was decided is remembered until the result is committed; a restart forgets it."""

    def __init__(self, task: str, plan: TaskPlan, clock: Clock, deciding: Deciding | None) -> None:
        self._task, self._plan, self._clock, self._deciding = task, plan, clock, deciding
        self._again: dict[tuple[int, Hashable], Again] = {}
        self._failed: dict[tuple[int, Hashable], ToldFailed] = {}  # those
        self._rested = False  # when what is held began to be put out for the commit
        if deciding is not None and deciding.leaves_out:
            for teller in plan.tellers:
                teller.leave_out = self._leave_out

    # ---- those that are tried again

    @property
    def rests(self) -> Again | None:
        """What the task waits for, to try a result again: it takes no record before."""
        last = self._last
        return None if last is None else self._again[last]

    @property
    def waits_for(self) -> tuple[ToldFailed, float] | None:
        """What became of that result, and in how many seconds it is tried again."""
        if (last := self._last) is None:
            return None
        return self._failed[last], self._again[last].due - self._clock.monotonic()

    @property
    def _last(self) -> tuple[int, Hashable] | None:
        if not self._again:
            return None
        last = max(self._again, key=lambda one: self._again[one].due)
        return last if self._clock.monotonic() < self._again[last].due else None

    @property
    def pending(self) -> bool:
        """Whether something was decided about a result that is to be put out again."""
        return any([teller.pending for teller in self._plan.tellers])

    # ---- what is decided

    def decide(self, error: ToldFailed) -> bool:
        """Whether the task goes on after this: where it is known which result failed, as the policies say; else what
        is told comes one at a time, and it will be."""
        if self._deciding is None:
            return False
        error.goes_on = self._decide(error, self._deciding)
        return error.goes_on

    def _decide(self, error: ToldFailed, deciding: Deciding) -> bool:
        teller, result = error.teller, error.failed
        if result is None or error.origin is None or error.row is None:
            known = teller.singly or not deciding.leaves_out_results(error, self._plan)
            teller.singly = True
            return not known
        one = self._place(teller), teller.alike(error.origin, error.row)
        before, again = _whose_letter_failed(error, teller.before(result)), self._again.get(one) or Again()
        if again.due > self._clock.monotonic():  # a commit came meanwhile
            return True
        self._again.pop(one, None), self._failed.pop(one, None)
        verdict = deciding.decide_result(error, self._plan, self._task, self._place(teller), before, again)
        if before is not None:
            teller.forget(result)
        if verdict is None:
            return False
        if isinstance(verdict, Again):
            self._again[one], self._failed[one] = verdict, error
            teller.rests_until = verdict.due
        else:
            if teller.varies(result):
                result = teller.result(error.origin, error.row)
            teller.leaves_out(result, _with_letter(verdict, error.origin, error.row))
        return True

    def _leave_out(self, origin: ToldOrigin, row: int, error: BaseException) -> bool:
        """Whether a result with which nothing was done before it failed is left out at once."""
        if self._deciding is None or isinstance(error := fair(error), PASSES):
            return False
        failed = origin.blamed(row, error)
        failed.__cause__ = error
        teller, result = failed.teller, failed.failed
        if result is None or self._is_tried_again(failed) or teller.before(result) is not None:
            return False
        verdict = self._deciding.decide_result(
            failed, self._plan, self._task, self._place(teller), None, Again(), or_not=True
        )
        if not isinstance(verdict, LeftOut):
            return False
        verdict = _with_letter(verdict, origin, row)
        teller.leaves_out(result, verdict, now=True)
        verdict.write_result(origin, row, self._plan.writer)
        return True

    def _place(self, teller: Teller) -> int:
        """Of its step in the sub-topology."""
        return next(n for n, one in enumerate(self._plan.operators) if getattr(one, "teller", None) is teller)

    # ---- what Kafka refuses

    def refused(self, found: Iterable[Refused]) -> ResultFailed | None:
        """The failure of the first result, or timer, of which Kafka is known to refuse what came of it. Where that is
        tried again it is Kafka's to say."""
        for one in found:
            if one.cause is None or isinstance(one.error, Suspected):
                continue
            failed = self._blamed(one.cause, one.error)
            if isinstance(failed, ToldFailed) and self._is_tried_again(failed):
                continue
            self._plan.writer.by[one.error.topic, one.error.key, one.error.size] = one.order
            return failed
        return None

    def _is_tried_again(self, failed: ToldFailed) -> bool:
        origin, row, teller = failed.origin, failed.row, failed.teller
        if not self._again or origin is None or row is None:
            return False
        return (self._place(teller), teller.alike(origin, row)) in self._again

    def behind(self, refused: RecordRefused, *, alone: bool) -> ResultFailed | None:
        """The same of what Kafka has refused; None where it is a record's, or not certain.

        Args:
            alone: the record that may be at fault instead was alone in its transaction.
        """
        output = refused.topic, refused.key, refused.size
        causes = self._plan.writer.causes
        cause = causes.get((output, refused.timestamp))
        if cause is None and not refused.timestamp:  # Kafka's client, before it sends, does not say which time it had
            cause = next((cause for (one, _), cause in causes.items() if one == output), None)
        in_doubt = refused.code in TOO_LARGE or (refused.code == "INVALID_RECORD" and refused.key is not None)
        if cause is None or (in_doubt and not alone):
            return None
        return self._blamed(cause, refused)

    def _blamed(self, cause: tuple[object, int], refused: RecordRefused) -> ResultFailed:
        origin, row = cause
        failed: ResultFailed = origin.blamed(row, refused)  # type: ignore[attr-defined]
        failed.__cause__ = refused
        return failed

    def flushing(self) -> None:
        """What is held is put out for a commit next."""
        self._rested = self.rests is not None

    def committed(self) -> None:
        """All that was due has been told, unless the task rested; it may be time by now."""
        rests = self._rested or self.rests is not None
        for teller in self._plan.tellers:
            done = teller.committed(rests=rests)
            if done and self._deciding is not None:
                self._deciding.committed(self._task, 0, [one for one in done if isinstance(one, LeftOut)])
        if self._again and not rests:
            self._again, self._failed = {}, {}


def _whose_letter_failed(error: ToldFailed, before: LeavesOut | None) -> LeftOut | None:
    """The verdict by which the result was left out, where it is the letter that Kafka refuses. Else another result
    fails, of the same key, time and value."""
    refused = raised_in(cause_of(error))
    if isinstance(before, LeftOut) and isinstance(refused, RecordRefused) and refused.topic == before.topic:
        return before
    return None


def _with_letter(verdict: LeftOut, origin: ToldOrigin, row: int) -> LeftOut:
    """With what is in its letter: key and value as they would have been written."""
    if verdict.topic is None or verdict.result is not None:
        return verdict
    more: tuple[tuple[str, bytes], ...] = ()
    try:
        value = origin.raw(row)
    except NotEncoded as error:
        value, more = str(error).encode(errors="backslashreplace"), ((VALUE, b"repr"),)
    key = origin.teller.key_in_topics(origin.keys[row])
    return replace(verdict, headers=(*verdict.headers, *more), result=(key, value, origin.stamps[row]))
