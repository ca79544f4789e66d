"""Planned failures of client calls."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PRODUCER_CALLS = frozenset(
    {"produce", "poll", "flush", "init_transactions", "begin", "send_offsets", "commit", "abort"}
)
CONSUMER_CALLS = frozenset({"poll", "seek", "commit"})
ADMIN_CALLS = frozenset(
    {
        "topics",
        "topic_configs",
        "create_topics",
        "delete_topics",
        "committed",
        "end_offsets",
        "start_offsets",
        "members",
        "set_committed",
        "delete_group",
        "describe",
        "delete_records",
    }
)
_CALLS = {"producer": PRODUCER_CALLS, "consumer": CONSUMER_CALLS, "admin": ADMIN_CALLS, "clients": frozenset({"fence"})}


@dataclass(slots=True)
class PlannedFault:
    """A failure to come. `skip` calls still pass before it; `struck` says whether it came."""

    error: Exception
    after: bool
    skip: int
    struck: bool = False


class Faults:
    """Which calls fail next. A call is named `producer.commit`; a name that only one client has, `send_offsets`.

    A bare name that two clients share means the producer's.
    """

    def __init__(self) -> None:
        self._planned: defaultdict[str, deque[PlannedFault]] = defaultdict(deque)

    def plan(self, call: str, error: Exception, *, after: bool = False, skip: int = 0) -> PlannedFault:
        """See `MemoryCluster.fail_next`. Returns what will say whether it struck."""
        fault = PlannedFault(error, after, skip)
        self._planned[_full_name(call)].append(fault)
        return fault

    @contextmanager
    def around(self, call: str) -> Iterator[None]:
        """Runs the body, unless a fault is planned for before it; raises one planned for after it."""
        fault = self._due(call)
        if fault is not None and not fault.after:
            raise fault.error
        yield
        if fault is not None:
            raise fault.error

    def _due(self, call: str) -> PlannedFault | None:
        planned = self._planned.get(call)
        if not planned:
            return None
        if planned[0].skip:
            planned[0].skip -= 1
            return None
        fault = planned.popleft()
        fault.struck = True
        return fault


def _full_name(call: str) -> str:
    client, _, name = call.rpartition(".")
    for known, calls in _CALLS.items():
        if name in calls and client in ("", known):
            return f"{known}.{name}"
    raise ValueError(f"no client has a call {call!r} that can be made to fail")
