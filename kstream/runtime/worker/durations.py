"""What is told of restores that are done: how long each took, and one line for those that were under way together."""

from __future__ import annotations

import logging
from typing import Final

from kstream.observe.catalogue import LATENCIES
from kstream.observe.instruments import Histogram
from kstream.observe.logs import PERFORMANCE


class Durations(Histogram):
    """Of restores, in seconds."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(LATENCIES)
        self._log: Final = log
        self._together: list[float] = []  # since the last line

    def took(self, task: str, seconds: float, *, others: bool) -> None:
        """A task runs.

        Args:
            others: are still being restored.
        """
        self.observe(seconds)
        told = PERFORMANCE | {"task": task, "seconds": seconds}
        self._log.debug("task %s runs after %.2f s of restore", task, seconds, extra=told)
        self._together.append(seconds)
        if others:
            return
        count, slowest = len(self._together), max(self._together)
        if count == 1:
            self._log.info("restored 1 task, it runs after %.2f s", seconds, extra=PERFORMANCE)
        else:
            self._log.info(
                "restored %d tasks, all of them run; the slowest took %.2f s", count, slowest, extra=PERFORMANCE
            )
        self._together.clear()
