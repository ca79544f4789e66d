"""What a task knows of its records that failed, and what it does about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kstream.errors import (
    KStreamError,
    ProcessingError,
    ResultFailed,
    StateError,
    TransactionError,
    text_of,
)
from kstream.operators.closing import DueFirst, TooManyDue
from kstream.operators.delayed import Delayed, Note
from kstream.operators.marks import Marks
from kstream.operators.raised import fair
from kstream.operators.refusals import Suspected
from kstream.operators.told import ToldFailed, of_others
from kstream.operators.writer import Refused
from kstream.plan import TaskPlan
from kstream.runtime.task.care import Care
from kstream.runtime.task.deciding import Deciding
from kstream.runtime.task.failures import PASSES, PushFailed, Search, TaskFailed
from kstream.runtime.task.lost_topics import refusal_in
from kstream.runtime.task.mixed import at_fault, is_at_fault, parts_of, where
from kstream.runtime.task.overdue import Overdue
from kstream.runtime.task.results import FailedResults
from kstream.runtime.task.timers import FailedTimers
from kstream.runtime.task.verdicts import Again, LeftOut, Verdict, Verdicts
from kstream.types import Clock, Fetch, TopicPartition


class Handling:
    """Of one task. A record that fails where nothing was done with it before is left out at once, if its policies say
    so; its batch goes on, whether or not the task takes care.

    Args:
        deciding: the policies; None: a record that fails stops its task.
        note_of: what is known of a record that was set aside before.

    Attributes:
        search: the task's.
        rests_until: a record is tried again then (monotonic).
        left_out: records of the fetch that is worked at, what was decided about them, and their rows.
        letters: of the transaction, by topic, so many records come before the first that is written there instead.
        traceless: of a record that is left out nothing remains, where what it put out does not go out.
    """

    def __init__(
        self,
        task: str,
        plan: TaskPlan,
        clock: Clock,
        deciding: Deciding | None,
        note_of: Callable[[TopicPartition, int], Note | None],
        search: Search,
    ) -> None:
        self._note_of, self.search = note_of, search
        self._task, self._plan, self._clock, self._deciding = task, plan, clock, deciding
        self.care = Care(plan)
        self.traceless = not plan.stores and all(one.traceless for one in plan.operators)
        self._records = 0  # of the transaction, before the fetch
        self.overdue = Overdue(task, plan)
        self.timers = FailedTimers(task, plan, clock, deciding, self.overdue)
        self.results = FailedResults(task, plan, clock, deciding)
        self.verdicts = Verdicts()
        self.rests_until = 0.0
        self.left_out: list[tuple[LeftOut, Fetch, int]] = []
        self.letters: dict[str, int] = {}
        self._decided: tuple[ProcessingError, bool] | None = None  # about a record of it: whether the task goes on
        self._whole = False  # all operators emit what they hold
        self._asked: Suspected | None = None  # Kafka is asked whether it takes it

    def begin(self, fetch: Fetch, records: int, failed_before: bool) -> None:
        """A fetch is pushed next; so many records were processed since the last commit.

        Args:
            failed_before: its records have, and were set aside.
        """
        self.left_out, self._decided, self._asked, self._records = [], None, None, records
        if not records:
            self.letters.clear()
        self._plan.writer.watched = bool(self.search)
        self._plan.writer.by.clear()
        if not records:
            self._plan.writer.causes.clear()
        if failed_before:
            self.care.take()
        elif self.care.advised:
            self.care.heed_advice()
        if self.care:
            self.care.keep()
            leave_out = partial(self._leave_out, fetch, records)
        elif self._deciding is not None and self._deciding.leaves_out:
            leave_out = partial(self._leave_out, fetch, records)
        else:
            leave_out = None
        for part in parts_of(fetch):
            self._plan.sources[part.at.topic].leave_out = leave_out

    def _leave_out(self, fetch: Fetch, records: int, row: int, error: BaseException) -> bool:
        """Whether the policies leave out a record of which nothing was done yet. Without care nothing else can be done
        about it now, so nothing else is decided."""
        if isinstance(error := fair(error), PASSES):
            return False
        record = fetch.cut(row, row + 1)
        found = self.located(error, record.at, record.first_offset)
        if not self.care:
            return self._leave_out_only(found, record, row, records)
        goes_on = self.decide(found, records + row)
        verdict = self.verdicts.of(record.at, found.offset)
        if goes_on and isinstance(verdict, LeftOut):
            self.left_out.append((verdict, record, row))
            return True
        self._decided = found, goes_on
        return False

    def _leave_out_only(self, error: ProcessingError, record: Fetch, row: int, records: int) -> bool:
        at, offset = record.at, error.offset
        if self._deciding is None or self.verdicts.of(at, offset) is not None:
            return False
        verdict = self._deciding.decide(error, self._plan, None, records + row, self._note_of(at, offset), or_not=True)
        if not isinstance(verdict, LeftOut):
            return False
        self.verdicts.add(at, offset, verdict)
        self.left_out.append((verdict, record, row))
        return True

    def heed(self, fetch: Fetch, sent: bool) -> None:
        """Before anything of the fetch goes out. A record that is tried again is Kafka's to refuse, and is alone.

        Args:
            sent: something of it has left the task. Then, and while a search is on, what is not certain is Kafka's to
                say.

        Raises:
            RecordRefused: Kafka is known to refuse something of it. Suspected: it may.
        """
        refused = self._heed_results()
        if not refused or isinstance(self.on(fetch), Again):
            return
        if not sent and self._goes_on_without(fetch, refused):
            return
        row, error, order, _ = refused[0]
        self._plan.writer.by[error.topic, error.key, error.size] = order
        if isinstance(error, Suspected) and (sent or self.search or not self.care or row >= len(fetch)):
            self._asked = error if len(fetch) == 1 else None
            return
        is_at_fault(fetch, self._plan.sources, row if row < len(fetch) else None)
        raise error

    def _heed_results(self) -> list[Refused]:
        """Those of input records, of what is held. Raises ResultFailed where it is known to refuse something else."""
        if not (found := self._plan.writer.heed()):
            return found
        if (failed := self.results.refused(found)) is not None:
            raise failed
        return [one for one in found if one.cause is None]

    def _goes_on_without(self, fetch: Fetch, refused: list[Refused]) -> bool:
        """Leaves these rows out, where all that is left of them is what they put out: nothing is processed again. False
        where that cannot be, or one of them is not left out."""
        if not self.care or self.search or self.left_out or not self.traceless or refused[-1].row >= len(fetch):
            return False
        if any(isinstance(one.error, Suspected) for one in refused):
            return False
        for one in refused:
            self._plan.writer.by[one.error.topic, one.error.key, one.error.size] = one.order
            if not self._leave_out(fetch, self._records, one.row, one.error):
                refused[:] = [one]
                return False
        self._plan.writer.drop({one.row for one in refused})
        return True

    def finish(self) -> None:
        """The fetch is through: what was left out of it is written. Raises as `write`."""
        for verdict, record, row in sorted(self.left_out, key=lambda one: one[2]):  # each step finds its own
            self.verdicts.stands(record.at, record.first_offset, verdict)
            self.write(verdict, record, self._records + row)
        self.left_out = []

    def flushing(self, *, whole: bool) -> None:
        """Operators emit next what they hold for the commit; all of them, where it is the `whole`."""
        self._plan.writer.watched, self._whole = bool(self.search), whole
        self.results.flushing()
        if self.care:
            self.care.keep()

    def flushed(self) -> None:
        """They have. Raises as `release`, and ResultFailed."""
        self._heed_results()
        self.release()

    def flushes_again(self, error: ToldFailed) -> bool:
        """Whether they emit it anew, without a result that failed, or one at a time.

        Raises:
            PushFailed: what was decided takes the transaction back.
        """
        if not self._whole or not self.care or self._plan.cursor.faults:
            return False
        if not self.results.decide(error) or self.results.rests is not None or not self.care.take_back():
            raise PushFailed(0, self.timers.located(error)) from error
        return True

    def release(self) -> None:
        """All that was given to the operators is through, and goes out.

        Raises:
            TableUndeclared, TransactionError, StateError, StateDirectoryError: a function used a table that the task
                has not, or that cannot be read, and caught what that raised.
        """
        if self._plan.cursor.faults:
            raise self._plan.cursor.faults[0]
        self._plan.writer.release()

    def _raise_fault(self, error: BaseException) -> None:
        """Where that is why the task failed, whatever its functions made of it, no record is at fault, whatever
        policies say."""
        if not self._plan.cursor.faults:
            return
        fault = self._plan.cursor.faults[0]
        if isinstance(fault, PASSES):
            raise fault from None  # `error` may have it as its cause
        found = type(fault)(f"task {self._task} stopped: {fault}")
        found.__cause__ = error
        raise PushFailed(0, found) from error

    def held_back(self, error: BaseException) -> Exception:
        """What to raise where operators failed with what they held for a commit. Raises itself where no record can be
        at fault."""
        self._raise_fault(error)
        if isinstance(error, ResultFailed):
            self._without_a_record(error)
            return PushFailed(0, self.timers.located(error))
        return KStreamError(
            f"task {self._task}: its operators could not pass on what they held for the commit: {text_of(error, repr)}"
        )

    def on(self, fetch: Fetch) -> Verdict | None:
        """The verdict on the first record of a fetch; or on a timer, as long as the task rests for it.

        Raises:
            PushFailed: of no record. A later version of kstream wrote what this one would read wrongly.
        """
        if isinstance(fetch, (Marks, Delayed)) and (refusal := fetch.refusal) is not None:
            raise PushFailed(0, KStreamError(f"task {self._task}: {refusal}"))
        if (rests := self.waits_for) is not None:
            return rests
        return self.verdicts.of(fetch.at, fetch.first_offset) if self.verdicts else None

    def rests(self, verdict: Again) -> bool:
        """Whether a record is not tried again yet: the task rests until it is."""
        if self._clock.monotonic() >= verdict.due:
            return False
        self.rests_until = verdict.due
        return True

    @property
    def waits_for(self) -> Again | None:
        """The timer or the result that failed, and that it waits for to try it again."""
        return self.timers.rests or self.results.rests

    def waits(self) -> bool:
        """The same as `rests` of that."""
        return (rests := self.waits_for) is not None and self.rests(rests)

    def taken_back(self, fetch: Fetch, error: BaseException, sent: bool, records: int) -> None:
        """What a fetch that failed has done is taken back, by itself. Where it is known which of its records is at
        fault, the policies decide about that one; else fewer of them are to come at a time. One that Kafka is to be
        asked about comes alone.

        Args:
            sent: whether anything of it has left the task.
            records: that the task has processed since the last commit.

        Raises:
            PushFailed: it cannot be taken back by itself, or its task is to stop.
        """
        error = of_others(error)
        if isinstance(error, DueFirst):  # nothing was done yet
            self.overdue.start(error.before, error.rows)
            return
        self._raise_fault(error)
        if isinstance(error, ResultFailed):  # no record is at fault
            careful, goes_on = bool(self.care), self._without_a_record(error)
            if not goes_on or not careful or sent or not self.care.take_back():
                raise PushFailed(0, self.timers.located(error)) from error
            return
        if not self.care or sent or not self.care.take_back():
            raise self._failure(fetch, error, careless=self._is_careless(fetch, error, sent)) from error
        row = 0 if len(fetch) == 1 else at_fault(fetch, self._plan.sources)
        if isinstance(error, Suspected):
            self.search.apart(records + (row or 0))
        elif row is not None:
            record = fetch.cut(row, row + 1)
            found = self.located(error, record.at, record.first_offset)
            decided, self._decided = self._decided, None
            if decided and (decided[0].topic, decided[0].offset) == (found.topic, found.offset):
                found, goes_on = decided
            else:
                goes_on = self.decide(found, records + row)
            if not goes_on:
                raise (PushFailed(1, found) if len(fetch) == 1 else self._failure(fetch, error)) from error

    def _without_a_record(self, error: ResultFailed) -> bool:
        """Whether the task goes on after the failure of a timer or a result; with care then, from the next batch on."""
        goes_on = self.results.decide(error) if isinstance(error, ToldFailed) else self.timers.decide(error)
        if goes_on and not isinstance(error, TooManyDue):
            self.care.take()
        return goes_on

    def of_a_result(self, failure: TaskFailed) -> TaskFailed:
        """That of the result, or timer, whose output Kafka refused, about which it is decided; else it is a record's,
        as it was."""
        if (refused := refusal_in(failure.error)) is None:
            return failure
        alone = self.search.alone or self.search.was_alone(failure)
        failed = self.results.behind(refused, alone=alone)
        if failed is None:
            return failure
        self._without_a_record(failed)
        return TaskFailed(self._task, self.timers.located(failed))

    def _is_careless(self, fetch: Fetch, error: BaseException, sent: bool) -> bool:
        """Whether the task would go on if it took care."""
        if self.care or sent or self.search or self._deciding is None:
            return False
        return self._deciding.goes_on(error, self._plan, fetch.at.topic)

    def decide_late(self, error: ProcessingError, records: int) -> bool:
        """As `decide`, about a record that was through when it failed: others came behind it."""
        self.verdicts.doubt_others(TopicPartition(error.topic, error.partition))
        return self.decide(error, records)

    def decide(self, error: ProcessingError, records: int) -> bool:
        """Whether the policies have the task go on after a record that failed; that is remembered until it is
        committed."""
        at, offset = TopicPartition(error.topic, error.partition), error.offset
        verdict, self._asked = None, None
        if self._deciding is not None and not isinstance(error.__cause__, ResultFailed):
            note = self._note_of(at, offset)
            verdict = self._deciding.decide(error, self._plan, self.verdicts.of(at, offset), records, note)
        if verdict is None:
            self.verdicts.forget(at, offset)
            return False
        self.verdicts.add(at, offset, verdict)
        self.care.take()
        return True

    def write(self, verdict: LeftOut, fetch: Fetch, before: int) -> None:
        """Leaves out the one record of the fetch; so many come before it in the transaction.

        Raises:
            PushFailed: its dead letter cannot be written.
            TransactionError: nothing can be written, which is not on account of the dead letter.
        """
        self._asked = None
        if not before:
            self.letters.clear()
        if verdict.topic is not None:
            self.letters.setdefault(verdict.topic, before)
        try:
            verdict.write(fetch, self._plan.writer)
        except (TransactionError, StateError):
            raise
        except KStreamError as error:
            raise self._failure(fetch, error) from error

    def committed(self, positions: dict[TopicPartition, int], records: int) -> None:
        """So many records, and everything before these positions."""
        done = self.verdicts.committed(positions) if self.verdicts else ()
        self.timers.committed()
        self.results.committed()
        if self._deciding is not None:
            self._deciding.committed(self._task, records, done)
            if self._asked is not None:
                self._deciding.taken(self._asked)
                self._asked = None

    def _failure(self, fetch: Fetch, error: BaseException, *, careless: bool = False) -> PushFailed:
        if len(fetch) > 1:
            found = KStreamError(
                f"task {self._task}: {text_of(error, repr)} in a batch of {where(fetch)}; looking for the record that "
                "failed"
            )
            found.__cause__ = error
        else:
            found = self.located(error, fetch.at, fetch.first_offset)
        return PushFailed(len(fetch), found, careless=careless)

    def located(self, error: BaseException, at: TopicPartition, offset: int) -> ProcessingError:
        """The error of a record."""
        found = ProcessingError(self._task, at.topic, at.partition, offset, error)
        found.__cause__ = error
        return found
