"""Savepoints that are asked for on an instance's page: each is made on a thread, as the command makes it, one by one.

They are of the whole app, whichever instance is asked. Where this instance ends meanwhile, it is as if the command were
killed: the others go on, and the savepoint does not exist.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import msgspec

from kstream.config import Settings
from kstream.errors import KStreamError, SavepointFailed
from kstream.observe.status import SavepointStatus
from kstream.runtime.cluster.saving import Saving
from kstream.state.savepoint import check_name
from kstream.state.snapshots.storage import open_storage
from kstream.topology import Topology
from kstream.types import Clients

log = logging.getLogger(__name__)

KEPT: Final = 20
"""Savepoints that are told of."""


class Savepoints:
    """See the module's text. Any thread may ask.

    Args:
        make_clients: that tell ends at once (`records.looking`); called for each savepoint.
    """

    def __init__(self, topology: Topology, settings: Settings, make_clients: Callable[[], Clients]) -> None:
        self._topology, self._settings, self._make_clients = topology, settings, make_clients
        self._lock = threading.Lock()
        self._known: deque[SavepointStatus] = deque(maxlen=KEPT)

    def make(self, name: str | None, timeout: float) -> SavepointStatus:
        """Begins with it.

        Args:
            name: None: the moment, as `20301224-183000` (UTC).
            timeout: seconds for which inputs are held at most.

        Raises:
            UsageError: nothing can be called so. SavepointFailed: another one is being made here.
        """
        now = time.time()
        name = name or f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}"
        check_name(name)
        with self._lock:
            if self._known and self._known[-1].state == "making":
                raise SavepointFailed(name, f"savepoint {self._known[-1].name} is being made")
            self._known.append(SavepointStatus(name, self._settings.savepoint_place, now))
            told = self._told(self._known[-1])
        log.warning("savepoint %s was requested on the page or by the API", name)
        threading.Thread(target=self._make, args=(name, timeout), name="savepoint", daemon=True).start()
        return told

    def latest(self) -> list[SavepointStatus]:
        """The oldest first."""
        with self._lock:
            return [self._told(one) for one in self._known]

    @staticmethod
    def _told(one: SavepointStatus) -> SavepointStatus:
        seconds = max(0.0, time.time() - one.at) if one.state == "making" else one.seconds
        return msgspec.structs.replace(one, steps=list(one.steps), seconds=seconds)

    def _make(self, name: str, timeout: float) -> None:
        began = time.monotonic()
        try:
            tasks, size = self._made(name, timeout)
            self._now(state="made", tasks=tasks, size=size, seconds=time.monotonic() - began)
            log.info("savepoint %s is there", name)
        except Exception as error:  # it is told where it was asked for
            known = isinstance(error, KStreamError)
            why = getattr(error, "why", None) or str(error) or type(error).__name__
            self._now(state="failed", error=why, seconds=time.monotonic() - began)
            log.error("there is no savepoint %s: %s", name, why, exc_info=None if known else error)

    def _made(self, name: str, timeout: float) -> tuple[int, int]:
        storage, clients = open_storage(self._settings.savepoint_place), self._make_clients()
        self._now(place=storage.url)
        with closing(clients.admin()) as admin:
            made = Saving(
                self._topology, clients, admin, storage, name, timeout=timeout, stop=False,
                replication=self._settings.replication_factor, on_stage=self._step,
            ).make()  # fmt: skip
        return len(made.tasks), made.size

    def _step(self, words: str) -> None:
        with self._lock:
            self._known[-1].steps.append(words)

    def _now(self, **changes: object) -> None:
        with self._lock:
            self._known[-1] = msgspec.structs.replace(self._known[-1], **changes)
