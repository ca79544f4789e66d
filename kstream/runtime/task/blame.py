"""At which step a record failed, and in which phase: found from the error when it has failed, at no cost before."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType

from kstream.codecs import ColumnError
from kstream.errors import CodecError, EntryUnreadable, JsonOutOfBounds, KStreamError, RecordRefused, RecordTooLarge
from kstream.operators.base import Operator
from kstream.plan import TaskPlan
from kstream.specs.policy import Phase
from kstream.state.store import Store
from kstream.topology import Node, RouteNode, SubTopology


@dataclass(frozen=True, slots=True)
class Blame:
    """`node` is the place of the step in its sub-topology."""

    node: int
    phase: Phase


def blame(error: BaseException, part: SubTopology, plan: TaskPlan, topic: str) -> Blame:
    """Where this is from.

    Args:
        error: as it was raised.
        topic: that the record is from: its source is to blame where nothing else is known.
    """
    raised = raised_in(error)
    node = step_of(raised, part, plan)
    if node is None:
        node = plan.operators.index(plan.sources[topic])
    return Blame(node, phase_of(raised))


def step_of(raised: BaseException, part: SubTopology, plan: TaskPlan) -> int | None:
    """The step that this was raised in, or that wrote what Kafka refuses; None where that is not known."""
    node = _by_traceback(raised, part, plan)
    if node is None:  # it was caught within the step that is at work still
        node = _at_work(plan)
    if isinstance(raised, RecordRefused):
        by = plan.writer.by.get((raised.topic, raised.key, raised.size))
        node = _writer(part, raised.topic, node) if by is None else by
    return node


def cause_of(error: BaseException) -> BaseException:
    """What a record's error was raised from. An exception of the user's may count as false (by its length)."""
    return error if error.__cause__ is None else error.__cause__


def raised_in(error: BaseException) -> BaseException:
    """What was raised, without what kstream put around it to say where."""
    return error.__cause__ if type(error) is KStreamError and error.__cause__ is not None else error


def reason_of(error: BaseException) -> BaseException:
    """What was raised first, whose class a record is said to have failed with: the one that policies are given."""
    while type(error) in (KStreamError, ColumnError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def kind_of(error: BaseException) -> type[BaseException]:
    """The class of that; of kstream's own, the one that users can name."""
    kind = type(reason_of(error))
    return CodecError if kind is ColumnError else kind


def phase_of(error: BaseException) -> Phase:
    if isinstance(error, RecordRefused):
        return "produce"
    if isinstance(error, EntryUnreadable):
        return "restore"
    if isinstance(error, RecordTooLarge | JsonOutOfBounds):
        return "decode"
    if isinstance(error, CodecError):
        return "decode" if isinstance(error, ColumnError) and error.reading else "encode"
    return "process"


def _by_traceback(error: BaseException, part: SubTopology, plan: TaskPlan) -> int | None:
    """The innermost step, or the one that uses the innermost store, among those that were at work."""
    found: int | None = None
    trace = error.__traceback__
    while trace is not None:
        one = trace.tb_frame.f_locals.get("self")
        if isinstance(one, Operator) and one in plan.operators:
            found = plan.operators.index(one)
        elif isinstance(one, Store) and found is None:
            found = next((n for n, node in enumerate(part.nodes) if one.spec in node.stores), None)
        trace = trace.tb_next
    return found


def _at_work(plan: TaskPlan) -> int | None:
    """The innermost step that this is called from."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        one = frame.f_locals.get("self")
        if isinstance(one, Operator) and one in plan.operators:
            return plan.operators.index(one)
        frame = frame.f_back
    return None


def _writer(part: SubTopology, topic: str, at_work: int | None) -> int | None:
    """The step that writes to this topic: the one that is at work, or is declared to, or chooses its topics."""
    writers = [n for n, one in enumerate(part.nodes) if _writes(one, topic)]
    if at_work in writers:
        return at_work
    declared = [n for n in writers if not isinstance(part.nodes[n], RouteNode)]
    return next(iter([*declared, *writers]), at_work)


def _writes(node: Node, topic: str) -> bool:
    return isinstance(node, RouteNode) or any(one.name == topic for one in node.writes)
