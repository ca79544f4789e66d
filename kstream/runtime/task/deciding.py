"""What the policies make of a record that failed: it is tried again, set aside, left out, or its task stops."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from math import ceil
from typing import Final, TypeAlias

from msgspec import structs

from kstream.errors import ProcessingError, RecordRefused, TimerFailed, text_of
from kstream.observe.throttle import Throttle
from kstream.operators.delayed import Note
from kstream.operators.refusals import Refusals, Suspected
from kstream.operators.told import ToldFailed
from kstream.plan import TaskPlan
from kstream.runtime.task.blame import Blame, blame, cause_of, kind_of, phase_of, raised_in, step_of
from kstream.runtime.task.failures import place_of
from kstream.runtime.task.lost_topics import lost_topic
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.verdicts import Again, LeftOut, Verdict, dead_letter, headers_of
from kstream.specs.policy import DeadLetter, Fail, Retry, RetryLater, Skip
from kstream.topology import SubTopology
from kstream.types import Clock

log = logging.getLogger(__name__)
_throttle = Throttle()  # a line about the first, then one in ten seconds with the count of the others
log.addFilter(_throttle)

SECONDS: Final = 60.0
"""Over which the share of failing records is taken."""
FEWEST: Final = 10
"""Records that must have failed within that time before the share counts."""
KEPT: Final = "; not left out: "
"""In the text of an error: why its policies do not leave out the record."""
LEAVE_OUT: Final = (Skip, DeadLetter, RetryLater)
"""Policies under which a record is left out."""


_Place: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a record."""


class ErrorRate:
    """The share of a task's records that failed at each of its steps within the last minute. Times are monotonic."""

    def __init__(self) -> None:
        self._failed: dict[int, dict[_Place, float]] = {}
        self._committed: deque[tuple[float, int]] = deque()

    def failed(self, node: int, record: _Place, now: float) -> int:
        """This record failed, perhaps once more: after an abort it is tried again. Returns how many did."""
        failed = self._failed.setdefault(node, {})
        failed.setdefault(record, now)
        while failed and failed[first := next(iter(failed))] < now - SECONDS:
            del failed[first]
        return len(failed)

    def committed(self, records: int, now: float) -> None:
        """So many more are."""
        if self._committed and now - self._committed[-1][0] < 1.0:
            now, before = self._committed.pop()
            records += before
        self._committed.append((now, records))
        self._drop_old(now)

    def records(self, now: float) -> int:
        """How many were committed."""
        self._drop_old(now)
        return sum(count for _, count in self._committed)

    def _drop_old(self, now: float) -> None:
        while self._committed and self._committed[0][0] < now - SECONDS:
            self._committed.popleft()


class Deciding:
    """Decides for the tasks of one sub-topology.

    Args:
        refusals: what Kafka refuses of a record that is left out is made known there.
        max_error_rate: the share of records failing at a step from which on none is left out; None is no limit.

    Attributes:
        leaves_out: whether there is a policy that may leave a record out.
    """

    def __init__(
        self,
        app: str,
        part: SubTopology,
        clock: Clock,
        measures: Measures,
        refusals: Refusals,
        max_error_rate: float | None,
    ) -> None:
        self._refusals = refusals
        self._app, self._part, self._clock, self._measures = app, part, clock, measures
        self._most, self._names = max_error_rate, part.operator_names
        self._delays = {(one.source, one.seconds): one.topic for one in part.delays}
        self._rates: dict[str, ErrorRate] = {}  # by task
        self.leaves_out = any(isinstance(one, LEAVE_OUT) for policies in part.policies for one in policies)

    def committed(self, task: str, records: int, left_out: Iterable[LeftOut] = ()) -> None:
        """So many records of the task are, these among them. They are counted here, once, for until now each of them
        may have failed anew."""
        for one in left_out:
            if one.note is not None:
                self._measures.retried[one.source, one.reason] += 1
            elif one.topic is None:
                self._measures.skipped[one.source, one.reason] += 1
            else:
                self._measures.dead_letters[one.topic, one.reason] += 1
        if self._most is not None:
            self._rates.setdefault(task, ErrorRate()).committed(records, self._clock.monotonic())

    def goes_on(self, error: BaseException, plan: TaskPlan, topic: str) -> bool:
        """Whether there is a policy for a record of this topic that failed so, and the task does not stop by it."""
        found = blame(error, self._part, plan, topic)
        policy = next((one for one in self._part.policies[found.node] if one.fits(error, found.phase)), None)
        return policy is not None and not isinstance(policy, Fail)

    def decide(
        self, error: ProcessingError, plan: TaskPlan, before: Verdict | None, records: int, note: Note | None = None,
        *, or_not: bool = False,
    ) -> Verdict | None:  # fmt: skip
        """The verdict; None stops the task.

        Args:
            error: the record's; `__cause__` is what was raised.
            before: the verdict on the record until now. One whose dead letter fails is not left out, unless the
                letter was too large and can be made smaller.
            records: that the task has processed since the last commit.
            note: of a record that was set aside before.
            or_not: only where it is left out. Else nothing is decided, and the verdict is None.
        """
        if isinstance(before, LeftOut):
            return before.smaller(error.__cause__)
        if plan.cursor.faults or lost_topic(error, self._part, plan) is not None:
            return None
        cause, again = cause_of(error), before or Again()
        raised = raised_in(cause)
        where = note or Note(topic=error.topic, partition=error.partition, offset=error.offset)
        found = blame(cause, self._part, plan, error.topic)
        if or_not and not self._leaves_out(cause, found, where):
            return None
        self._measures.parts[self._part.name].failed[found.node] += 1
        again.failed += 1
        failed = where.failed + again.failed
        for policy in self._part.policies[found.node]:
            if not policy.fits(cause, found.phase):
                continue
            if isinstance(policy, Retry):
                if (pause := again.after(policy, self._clock.monotonic())) is None:
                    continue
                self._measures.retried[where.topic, self._measures.named(kind_of(cause))] += 1
                self._tell(error, where, raised, f"is tried again in {pause:.1f} s, attempt {failed + 1}")
                return again
            if isinstance(policy, RetryLater) and where.moved >= len(policy.delays):
                continue
            if isinstance(policy, Fail) or self._too_many(error, found.node, records):
                return None
            reason = self._measures.named(kind_of(cause))
            if isinstance(raised, RecordRefused):
                self._refusals.learn(raised)
            if isinstance(policy, RetryLater):
                seconds = policy.delays[where.moved]
                self._tell(
                    error, where, raised, f"is set aside, and tried again in {seconds:g} s, attempt {failed + 1}"
                )
                due = ceil((self._clock.time() + seconds) * 1000)
                note = structs.replace(where, moved=where.moved + 1, failed=failed, due=due, timestamp=None)
                return LeftOut(
                    self._delays[plan.sources[error.topic].topic.name, seconds], where.topic, reason, note=note
                )
            topic = policy.dead_letters(self._app)
            self._measures.failed(found.phase, error)
            if topic is None:
                self._tell(error, where, raised, "is skipped")
                return LeftOut(None, where.topic, reason)
            self._tell(error, where, raised, f"is a dead letter now, in {topic}")
            return dead_letter(
                topic, self._app, error, where, agent=self._names[found.node], phase=found.phase, reason=reason,
                attempts=failed, now=self._clock.time(),
            )  # fmt: skip
        return None

    def _leaves_out(self, cause: BaseException, found: Blame, where: Note) -> bool:
        """Whether it is left out by the first policy that is for it."""
        for policy in self._part.policies[found.node]:
            if policy.fits(cause, found.phase) and not (
                isinstance(policy, RetryLater) and where.moved >= len(policy.delays)
            ):
                return isinstance(policy, LEAVE_OUT)
        return False

    def decide_timer(
        self, error: TimerFailed, plan: TaskPlan, task: str, node: int, again: Again
    ) -> Again | Skip | None:
        """The verdict on a timer that failed: it is tried `again`, or is left out; None stops the task."""
        if plan.cursor.faults or lost_topic(error, self._part, plan) is not None:
            return None
        cause = cause_of(error)
        self._measures.parts[self._part.name].failed[node] += 1
        again.failed += 1
        for policy in self._part.policies[node]:
            if not policy.fits(cause, "timer"):
                continue
            if isinstance(policy, Retry):
                if (pause := again.after(policy, self._clock.monotonic())) is None:
                    continue
                what = f"is tried again in {pause:.1f} s, attempt {again.failed + 1}"
                log.warning("task %s: %s; it %s", task, error, what, extra={"task": task})
                return again
            if not isinstance(policy, Skip):
                return None
            self._measures.failed("timer", error)
            log.warning("task %s: %s; the timer is skipped", task, error, extra={"task": task})
            return policy
        return None

    def leaves_out_results(self, error: ToldFailed, plan: TaskPlan) -> bool:
        """Whether there is a policy for this failure of one of several results, by which the task goes on."""
        raised = raised_in(cause_of(error))
        node = step_of(raised, self._part, plan)
        policies = () if node is None else self._part.policies[node]
        policy = next((one for one in policies if one.fits(cause_of(error), phase_of(raised))), None)
        return policy is not None and not isinstance(policy, Fail)

    def decide_result(
        self, error: ToldFailed, plan: TaskPlan, task: str, teller: int, before: LeftOut | None, again: Again, *,
        or_not: bool = False,
    ) -> Again | LeftOut | None:  # fmt: skip
        """The verdict on a result that no record is behind; None stops the task.

        Args:
            teller: the place of the step that put it out.
            before: the verdict by which it was left out, where its dead letter failed.
            or_not: only where it is left out. Else nothing is decided, and the verdict is None.
        """
        if before is not None:
            return before.smaller(error.__cause__)
        if plan.cursor.faults or lost_topic(error, self._part, plan) is not None:
            return None
        cause = cause_of(error)
        raised = raised_in(cause)
        node = step_of(raised, self._part, plan)
        node, phase = teller if node is None else node, phase_of(raised)
        policies = [one for one in self._part.policies[node] if not isinstance(one, RetryLater)]
        policies = [one for one in policies if one.fits(cause, phase)]
        if or_not and not (policies and isinstance(policies[0], LEAVE_OUT)):
            return None
        self._measures.parts[self._part.name].failed[node] += 1
        again.failed += 1
        for policy in policies:
            if isinstance(policy, Retry):
                if (pause := again.after(policy, self._clock.monotonic())) is None:
                    continue
                self._measures.retried[self._names[teller], self._measures.named(kind_of(cause))] += 1
                what = f"it is tried again in {pause:.1f} s, attempt {again.failed + 1}"
                self._tell_of_result(error, task, what)
                return again
            if isinstance(policy, Fail):
                return None
            reason = self._measures.named(kind_of(cause))
            if isinstance(raised, RecordRefused):
                self._refusals.learn(raised)
            self._measures.failed(phase, error)
            topic = policy.dead_letters(self._app)
            if topic is None:
                self._tell_of_result(error, task, "it is skipped")
                return LeftOut(None, self._names[teller], reason)
            self._tell_of_result(error, task, f"it is a dead letter now, in {topic}")
            key = error.teller.shown(None if error.failed is None else error.failed.key)
            is_of = {"kstream.result": error.teller.what, "kstream.result.step": self._names[teller]}
            headers = headers_of(
                cause, is_of | {"kstream.result.key": key}, self._app, task, agent=self._names[node], phase=phase,
                attempts=again.failed, now=self._clock.time(),
            )  # fmt: skip
            return LeftOut(topic, self._names[teller], reason, headers)
        return None

    def _tell_of_result(self, error: ToldFailed, task: str, what: str) -> None:
        text = f"task {task}: {error}; {what}"
        if log.isEnabledFor(logging.WARNING) and not _throttle.holds(text, logging.WARNING):
            log.warning("%s", text, extra={"task": task})

    def taken(self, suspected: Suspected) -> None:
        """Kafka took it."""
        self._refusals.taken(suspected)

    def _too_many(self, error: ProcessingError, node: int, records: int) -> bool:
        if self._most is None:
            return False
        rate, now = self._rates.setdefault(error.task, ErrorRate()), self._clock.monotonic()
        failed = rate.failed(node, (error.topic, error.partition, error.offset), now)
        among = max(1, rate.records(now) + records)
        if failed < FEWEST or failed <= self._most * among:
            return False
        text = str(error).partition(KEPT)[0]  # it is decided more than once
        error.args = (
            f"{text}{KEPT}{failed} of {among} records failed at {self._names[node]} within {SECONDS:.0f} s, more than "
            f"max_error_rate={self._most:g}",
        )
        return True

    def _tell(self, error: ProcessingError, where: Note, raised: BaseException, what: str) -> None:
        if not log.isEnabledFor(logging.WARNING):
            return
        place = f"{where.topic}[{where.partition}] offset {where.offset}"
        text = f"task {error.task}: {place} {what}: {kind_of(raised).__name__}: {text_of(raised)}"
        if not _throttle.holds(text, logging.WARNING):
            log.warning("%s", text, extra=place_of(error, error.task))
