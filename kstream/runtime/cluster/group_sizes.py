"""How many members the app's consumer groups have, as Kafka says.

Whoever may write to the topic of announcements may claim workers; members of a group are counted by its coordinator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from kstream.errors import KStreamError
from kstream.observe.throttle import Throttle
from kstream.runtime.cluster.naming import consumer_group
from kstream.types import AdminClient

log = logging.getLogger(__name__)
log.addFilter(Throttle())

ASK_SECONDS: Final = 5.0
"""How often each group is asked for, while somebody wants to know."""
STALE_SECONDS: Final = 60.0
"""After this an answer is none."""


class GroupSizes:
    """Asked by isolation group; never waits.

    Args:
        clock: monotonic.
    """

    def __init__(self, admin: AdminClient, app: str, clock: Callable[[], float]) -> None:
        self._admin, self._app, self._clock = admin, app, clock
        self._asked: dict[str, float] = {}
        self._questions: dict[str, Future[frozenset[str]]] = {}
        self._known: dict[str, tuple[int, float]] = {}

    def __call__(self, isolation: str) -> int | None:
        """The members of its consumer group, of a moment ago; None where that is not known."""
        now = self._clock()
        question = self._questions.get(isolation)
        if question is not None and question.done():
            self._take(isolation, self._questions.pop(isolation), now)
        if isolation not in self._questions and now - self._asked.get(isolation, float("-inf")) >= ASK_SECONDS:
            self._asked[isolation] = now
            self._questions[isolation] = self._admin.members(consumer_group(self._app, isolation))
        known = self._known.get(isolation)
        return None if known is None or now - known[1] > STALE_SECONDS else known[0]

    def _take(self, isolation: str, answer: Future[frozenset[str]], now: float) -> None:
        try:
            self._known[isolation] = len(answer.result()), now
        except KStreamError as error:
            log.warning("how many workers isolation group %s has elsewhere cannot be checked: %s", isolation, error)

    def close(self) -> None:
        self._admin.close()
