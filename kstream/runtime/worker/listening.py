"""Telling the user's listeners of checkpoints, on a thread of their own: the loop never waits for them.

As in Flink, to be told is no promise: a process that dies after a commit has told nobody, and of a listener that cannot
keep up some checkpoints are left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from kstream.specs.listener import Checkpoint, CheckpointListeners

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1000
"""Checkpoints that wait for a slow listener; of more, the oldest are left out."""
CLOSE_SECONDS: Final = 5.0
"""How long a clean stop waits until the listeners have heard of all of them."""
SLOW_SECONDS: Final = 10.0
"""Time in a listener from which on a line is logged."""


class Listening:
    """Begins its thread with the first checkpoint, and none where nobody listens.

    Args:
        inline: listeners are called at once, on the caller's thread (TestDriver).
    """

    def __init__(self, listeners: CheckpointListeners, *, inline: bool = False) -> None:
        self._listeners, self._inline = listeners, inline
        self._waiting: deque[Checkpoint] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = self._closed = False
        self.left_out = 0

    def tell(self, checkpoint: Checkpoint) -> None:
        """Never raises on account of a listener, and never waits for one."""
        if not self._listeners.of(checkpoint):
            return
        if self._inline:
            self._call(checkpoint)
            return
        with self._changed:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self.left_out += 1
                if self.left_out == 1:
                    log.warning(
                        "listeners of checkpoints are slower than the checkpoints: more than %d wait, and from now on "
                        "the oldest are left out", MOST_WAITING,
                    )  # fmt: skip
            self._waiting.append(checkpoint)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)
                self._thread.start()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Waits until all are told, for a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds):
                log.warning(
                    "listeners of checkpoints had not finished %.0f s after the worker's end: they were not called for "
                    "%d checkpoints",
                    seconds, len(self._waiting) + self._busy,
                )  # fmt: skip
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                checkpoint, self._busy = self._waiting.popleft(), True
            self._call(checkpoint)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _call(self, checkpoint: Checkpoint) -> None:
        for listener in self._listeners.of(checkpoint):
            began = time.monotonic()
            try:
                listener(checkpoint)
            except (Exception, SystemExit) as error:  # it ends nothing: the checkpoint is what it is
                log.error("%s failed on checkpoint %s: %r", _named(listener), checkpoint.id, error, exc_info=error)
            took = time.monotonic() - began
            if took >= SLOW_SECONDS:
                log.warning("%s took %.0f s for checkpoint %s", _named(listener), took, checkpoint.id)


def _named(listener: Callable[..., object]) -> str:
    return f"listener {getattr(listener, '__qualname__', repr(listener))}"
