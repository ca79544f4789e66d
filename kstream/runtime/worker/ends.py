"""Where inputs end that nothing is fetched of, asked of the brokers now and then.

The client hears of a partition's end with each fetch. Of one that is paused (its task is restored, has failed, is held
back) it hears nothing: what it knows grows old, or was never known, exactly when somebody looks at the lag.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Final

from kstream.errors import KStreamError
from kstream.types import AdminClient, Clock, ConsumerClient, TopicPartition

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 5.0
"""How often, in one request for all partitions of the worker."""


class Ends:
    """The ends of inputs, as last heard from the brokers; never waits.

    Args:
        owned: the partitions that the worker has.
        quiet: those of them that nothing is fetched of now.
    """

    def __init__(
        self,
        admin: AdminClient,
        consumer: ConsumerClient,
        clock: Clock,
        *,
        owned: Callable[[], Collection[TopicPartition]],
        quiet: Callable[[], Collection[TopicPartition]],
    ) -> None:
        self._admin, self._consumer, self._clock = admin, consumer, clock
        self._owned, self._quiet = owned, quiet
        self._question: Future[dict[TopicPartition, int]] | None = None
        self._asked = float("-inf")
        self._told: dict[TopicPartition, int] = {}

    def of(self, at: TopicPartition) -> int | None:
        """The end of a partition, the latest of what was asked and what the client heard; None where nobody has told it
        yet. No I/O."""
        told, heard = self._told.get(at), self._consumer.high_watermark(at)
        if told is None or heard is None:
            return heard if told is None else told
        return max(told, heard)  # a partition that was quiet a moment ago is fetched again, and grows

    def step(self) -> None:
        """Takes an answer, asks when it is time."""
        if self._question is not None:
            if not self._question.done():
                return
            question, self._question = self._question, None
            self._take(question)
        if self._clock.monotonic() - self._asked < ASK_SECONDS:
            return
        quiet, owned = self._quiet(), self._owned()
        # Of others the client hears, but one that was resumed only with its first fetch: until then it knows less.
        told = self._told.items()
        self._told = {at: end for at, end in told if at in quiet or (at in owned and self._lacks(at, end))}
        if wanted := self._told.keys() | quiet:
            self._asked = self._clock.monotonic()
            self._question = self._admin.end_offsets(list(wanted))

    def _lacks(self, at: TopicPartition, end: int) -> bool:
        heard = self._consumer.high_watermark(at)
        return heard is None or heard < end

    def _take(self, question: Future[dict[TopicPartition, int]]) -> None:
        try:
            answer = question.result()
        except KStreamError as error:
            log.warning(
                "the end offsets of the inputs cannot be read, their lag is not known: %s; trying again in %.0f s",
                error,
                ASK_SECONDS,
            )
            return
        owned = self._owned()
        self._told.update({at: end for at, end in answer.items() if at in owned})
