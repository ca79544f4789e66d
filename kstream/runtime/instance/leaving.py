"""Workers that are gone for good are taken out of their consumer group, so that others have their partitions at once.

On threads: nobody waits for the brokers in the supervisor's loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from kstream.config import Settings
from kstream.errors import LeavingFailed
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import options_from
from kstream.runtime.kafka.members import preload, remove_members

log = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0
"""Longest time that taking workers out of their group may take; they are out at the end of their session anyway."""

Remove = Callable[[str, Sequence[str], float], object]
"""Takes members out of a consumer group within that many seconds. Raises LeavingFailed."""


class Leaving:
    """Those that are being taken out of their groups."""

    def __init__(self, remove: Remove) -> None:
        self._remove = remove
        self._threads: list[tuple[threading.Thread, frozenset[str]]] = []

    @property
    def names(self) -> set[str]:
        """The names of the workers: nobody may join under them."""
        self._threads = [(thread, names) for thread, names in self._threads if thread.is_alive()]
        return {name for _, names in self._threads for name in names}

    def take_out(self, workers: Sequence[Identity]) -> None:
        """`workers` have ended."""
        for group in dict.fromkeys(worker.group for worker in workers):
            gone = [worker for worker in workers if worker.group == group]
            members = [one.member for one in gone]
            thread = threading.Thread(target=self._try, args=(group, members), name="leaving", daemon=True)
            thread.start()
            self._threads.append((thread, frozenset(one.worker for one in gone)))

    def wait(self) -> None:
        for thread, _ in self._threads:
            thread.join(LEAVE_SECONDS + 1)

    def _try(self, group: str, members: Sequence[str]) -> None:
        try:
            self._remove(group, members, LEAVE_SECONDS)
        except LeavingFailed as error:
            log.warning("%s", error)


def from_kafka(settings: Settings) -> Remove:
    """What takes members out of groups on the real Kafka."""
    if settings.leaves_on_stop or settings.worker_range:
        preload()
    return partial(remove_members, settings.bootstrap_servers, options_from(settings, "kstream"))
