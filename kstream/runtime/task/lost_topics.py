"""Whether it is a topic that failed, and no record: one that is written to is gone, or is not this user's.

With a policy that leaves records out, all that come would be left out, good as they are. So no policy is asked: the
task stops, and is tried again. Where a function of the user's chooses the topic record by record, the record is at
fault: those for other topics can go on.
"""

from __future__ import annotations

from typing import Final

from kstream.errors import RecordRefused, TransactionError
from kstream.plan import TaskPlan
from kstream.runtime.task.blame import step_of
from kstream.topology import RouteNode, SubTopology

DENIED: Final = "TOPIC_AUTHORIZATION_FAILED"
LOST: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", DENIED})
"""What Kafka says of records for a topic that is not there, or is not this user's."""

MEND: Final = ": create it, with as many partitions as it had"


def refusal_in(error: BaseException) -> RecordRefused | None:
    """What Kafka refused, where that is why something failed."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, RecordRefused):
            return one
        seen.add(id(one))
        one = one.__cause__
    return None


def lost_topic(error: BaseException, part: SubTopology, plan: TaskPlan) -> str | None:
    """What is said where a topic that is written to is gone, or may not be written; None where that is not why, or
    the record chose the topic."""
    if isinstance(error, TransactionError):
        return None if error.topic is None else str(error)
    refused = refusal_in(error)
    if refused is None or refused.code not in LOST:
        return None
    step = step_of(refused, part, plan)
    chosen = step is not None and isinstance(part.nodes[step], RouteNode)
    if chosen and not any(one.name == refused.topic for node in part.nodes for one in node.writes):
        return None
    return f"topic {refused.topic}: {refused.why} ({refused.code}){'' if refused.code == DENIED else MEND}"
