"""Records that take too long in user code, as far as the time of whole batches tells."""

from __future__ import annotations

import logging
import math

from kstream.observe.logs import PERFORMANCE
from kstream.observe.throttle import Throttle
from kstream.runtime.task.mixed import parts_of, where
from kstream.types import Fetch

log = logging.getLogger(__name__)
log.addFilter(Throttle())

_WEIGHT = 0.2
"""Of the latest batch in the running mean."""


class SlowRecords:
    """Logs a batch in which a record must have taken `limit` seconds or more; counts them in `batches`.

    Only a batch's time is measured. A batch of one record says it exactly. Of several, one is slow for certain when
    their mean is, and taken to be when the batch took `limit` seconds longer than as many records usually do. What is
    slow because all of it is (a batch that is too large, cut smaller the next time) is not reported. The time of an
    async agent has its waiting in it, and what the worker did meanwhile.

    Args:
        limit: seconds; 0 never.
    """

    def __init__(self, task: str, limit: float) -> None:
        self.batches = 0
        self._task, self._limit = task, limit or math.inf
        self._usual: float | None = None  # seconds a record, a running mean of the batches that were not slow

    def look(self, fetch: Fetch, seconds: float) -> None:
        """`seconds` is what the whole of the fetch took."""
        each = seconds / len(fetch)
        usual = each if self._usual is None else self._usual
        if each >= self._limit or seconds - usual * len(fetch) >= self._limit:
            self.batches += 1
            self._warn(fetch, seconds)
        else:
            self._usual = usual + _WEIGHT * (each - usual)

    def _warn(self, fetch: Fetch, seconds: float) -> None:
        fields = PERFORMANCE | {"task": self._task, "records": len(fetch), "seconds": seconds}
        first, last = fetch.first_offset, fetch.last_offset
        if len(parts_of(fetch)) == 1:
            fields |= {"topic": fetch.at.topic, "partition": fetch.at.partition}
            fields |= {"offset": first} if len(fetch) == 1 else {"first_offset": first, "last_offset": last}
        if len(fetch) == 1:
            log.warning("slow record: %s took %.2f s", where(fetch), seconds, extra=fields)
            return
        usual = "" if self._usual is None else f", where as many usually take {self._usual * len(fetch):.2g} s"
        log.warning("slow records: %d of %s, took %.2f s%s", len(fetch), where(fetch), seconds, usual, extra=fields)
