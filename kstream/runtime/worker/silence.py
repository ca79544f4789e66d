"""Whether inputs of which nothing comes are at their ends, as the brokers say.

What the client knows of an end is from its last fetch. Where a partition's leader has gone, a broker or the network
stands, or this process stood still, that is of before: what producers wrote meanwhile would be late behind the records
of a partition that is read a moment earlier.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple

from kstream.errors import KStreamError
from kstream.observe.throttle import Throttle
from kstream.types import AdminClient, Clock, TopicPartition

log = logging.getLogger(__name__)
log.addFilter(Throttle())

PROMPT: Final = 0.5
"""Seconds in which brokers answer that were there all the time. After a later answer they count as back, and producers
may still have what they could not write meanwhile."""

TELL: Final = 3
"""Times in a row without a prompt answer from which on a line says so: who waits for a window sees why."""


class Quiet(NamedTuple):
    """Of an input: since when (monotonic) nothing comes, and behind which offset."""

    since: float
    position: int


class Silence:
    """Asks, one question at a time, for all inputs that have been quiet for so many seconds; never waits."""

    def __init__(self, admin: AdminClient, clock: Clock, seconds: float) -> None:
        self._admin, self._clock, self._seconds = admin, clock, seconds
        self._question: Future[dict[TopicPartition, int]] | None = None
        self._of: Mapping[TopicPartition, Quiet] = {}
        self._asked = self._answered = 0.0
        self._back = float("-inf")  # the brokers were away until then: inputs are quiet from then on
        self._in_vain = 0  # times in a row
        self._confirmed: dict[TopicPartition, Quiet] = {}

    @property
    def has_news(self) -> bool:
        return self._question is not None and self._question.done()

    def confirmed(self, quiet: Mapping[TopicPartition, Quiet]) -> set[TopicPartition]:
        """Those that are at their ends: the brokers said so after they had been quiet for so long."""
        self._confirmed = {at: one for at, one in self._confirmed.items() if quiet.get(at) == one}
        self._take()
        asked = {at: one for at, one in quiet.items() if at not in self._confirmed}
        if asked and self._question is None and self._back <= self._clock.monotonic() - self._seconds:
            self._ask(asked)
            self._take()  # in memory it is there at once
        return {at for at in quiet if at in self._confirmed}

    def _ask(self, inputs: Mapping[TopicPartition, Quiet]) -> None:
        self._of, self._asked = inputs, self._clock.monotonic()
        self._question = self._admin.end_offsets(list(inputs))
        self._question.add_done_callback(self._note_time)

    def _note_time(self, _: object) -> None:
        """When it came, and not when this worker got round to it."""
        self._answered = self._clock.monotonic()

    def _take(self) -> None:
        if self._question is None or not self._question.done():
            return
        question, self._question = self._question, None
        try:
            ends = question.result()
        except KStreamError as error:
            self._were_away(self._clock.monotonic(), str(error))
            return
        if (seconds := self._answered - self._asked) > PROMPT:
            self._were_away(self._answered, f"the brokers answered after {seconds:.1f} s (more than {PROMPT} s)")
            return
        self._in_vain = 0
        self._confirmed |= {at: one for at, one in self._of.items() if ends[at] <= one.position}

    def _were_away(self, until: float, why: str) -> None:
        self._back, self._in_vain = until, self._in_vain + 1
        if self._in_vain >= TELL:
            log.warning(
                "whether inputs of which nothing comes are at their ends is not known, %d times in a row: %s; "
                "as long as that is so they do not become idle, and hold back windows, timers and joins",
                self._in_vain, why,
            )  # fmt: skip
