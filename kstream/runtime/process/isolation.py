"""What a worker's process keeps from the processes that user code starts, and what becomes of those."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress


def keep_from_children(*descriptors: int) -> None:
    """No process started from here has these descriptors, nor what this one does about SIGTERM: a child that read the
    commands would take them away, one that held the reports open would hide the worker's end, and a pool that is told
    to end must not take that for the worker's own business."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)

    masks = threading.local()

    def before() -> None:
        """A child that is told to end as soon as it is there would take that for ours, and Python forgets it: so it
        rests until the child has its own way of ending."""
        masks.was = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.was)

    def in_child() -> None:  # of a fork without an exec, as multiprocessing makes them
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.was)
        for descriptor in descriptors:
            os.close(descriptor)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def end_own_group(when: Callable[[], bool]) -> None:
    """Ends this process with all that it started, at its very end, if `when` says so. Else who started it does."""
    if when() and os.getpgrp() == os.getpid():
        end_group(os.getpid())


def end_group(leader: int) -> None:
    """Kills what is left of a process group."""
    with suppress(ProcessLookupError, PermissionError):  # nobody; on macOS nobody but zombies
        os.killpg(leader, signal.SIGKILL)
