"""Transactions that members of the group left open when they died: those who are left end them.

Kafka gives such a transaction up after `transaction_timeout` and up to ten seconds more. Until then its offsets are
pending, which a restore waits for, and readers of committed records get no further. The transactional id of a worker is
its member id (runtime/cluster/naming.py). So each worker remembers who was in the group, and at its next assignment,
whoever is missing has been let go: `init_transactions` under its id ends what it left, at once.

That fences the one who is gone, which costs what a crash costs, and never exactness (docs/decisions/0024). Nobody who
just comes is hit: a worker makes its first producer as a member of the group (rebalance.py), and it becomes one only
after all others have given up their partitions, which takes back what is asked for here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final
from zlib import crc32

from kstream.errors import KStreamError
from kstream.types import AdminClient, Clients, Clock

log = logging.getLogger(__name__)

ENDED_BY: Final = 2
"""So many of those who are left end what one left open: one of them may die, too."""

AT_ONCE: Final = 4
"""Short-lived producers that a worker has at a time."""

AGAIN_SECONDS: Final = 1.0
"""How long after a failed question it is asked again."""

ANSWER_SECONDS: Final = 10.0
"""How long a worker that was fenced waits for who is in the group; a coordinator is asked for five seconds."""


class Lingering:
    """Of one worker. Never waits, except in `is_out`.

    Args:
        transactional_id: None where there are no transactions: then nothing is done.
        timeout: seconds that the end of one may take.
    """

    def __init__(
        self,
        group: str,
        transactional_id: str | None,
        clients: Clients,
        admin: AdminClient,
        clock: Clock,
        *,
        timeout: float,
    ) -> None:
        self._group, self._member, self._timeout = group, transactional_id, timeout
        self._clients, self._admin, self._clock = clients, admin, clock
        self._members: frozenset[str] = frozenset()  # of the group at the last look
        self._known = self._members  # these, and those that are to be ended
        self._looks, self._not_before = False, 0.0
        self._question: Future[frozenset[str]] | None = None
        self._waiting: list[str] = []
        self._ending: dict[str, Future[None]] = {}

    def assigned(self) -> None:
        """The group has a new assignment: who is missing in it is looked for."""
        self._looks, self._not_before, self._question = self._member is not None, 0.0, None

    def unassigned(self) -> None:
        """Another assignment comes, perhaps with one who is about to be taken for gone: that is looked at anew then."""
        self._looks, self._question = False, None
        self._waiting.clear()

    def step(self) -> None:
        if self._looks:
            self._look()
        if self._waiting or self._ending:
            self._end()

    def is_out(self) -> bool:
        """Whether the group has let this worker go. Then its producer was fenced by those who are left. Where the group
        does not answer it is taken for that: should somebody have its name, its membership ends too."""
        if self._member is None:
            return False
        try:
            return self._member not in self._admin.members(self._group).result(ANSWER_SECONDS)
        except (KStreamError, TimeoutError) as error:
            log.warning("whether group %s has let this worker go cannot be read: %s", self._group, error)
            return True

    def _look(self) -> None:
        if self._question is None:
            if self._clock.monotonic() < self._not_before:
                return
            self._question = self._admin.members(self._group)
        if not self._question.done():
            return
        question, self._question = self._question, None
        try:
            found = question.result()
        except KStreamError as error:
            log.debug("who is in group %s cannot be read: %s; asking again", self._group, error)
            self._not_before = self._clock.monotonic() + AGAIN_SECONDS
            return
        self._looks = False
        if self._member not in found:
            return  # nothing that a member could go by
        gone, left = self._known - found, self._known & found
        self._waiting = sorted(one for one in gone if self._member in _chosen(left, one) and one not in self._ending)
        self._members, self._known = found, found.union(self._waiting, self._ending)

    def _end(self) -> None:
        while self._waiting and len(self._ending) < AT_ONCE:
            one = self._waiting.pop()
            self._ending[one] = self._clients.fence(one, self._timeout)
        for one in [one for one, ending in self._ending.items() if ending.done()]:
            if one not in self._members:  # else it is back
                self._known -= {one}
            try:
                self._ending.pop(one).result()
            except KStreamError as error:
                log.warning(
                    "the open transaction of %s, if it has one, cannot be ended: %s; until Kafka ends it, restores and "
                    "readers of committed records may wait for it",
                    one, error,
                )  # fmt: skip
            else:
                log.info(
                    "%s is not in group %s any more: its open transaction, if it had one, was ended", one, self._group
                )


def _chosen(left: Iterable[str], gone: str) -> list[str]:
    """Who ends what one left open: the same for all who were there, and shared out where many are gone."""
    return sorted(left, key=lambda one: (crc32(f"{one}\0{gone}".encode("utf-8", "surrogatepass")), one))[:ENDED_BY]
