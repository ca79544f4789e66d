"""The end of a process of ours.

Python ends a process through C's exit(), where OpenSSL clears up, whatever librdkafka's threads are doing: one that was
in a handshake ends in a segmentation fault, and the exit status is lost (seen with a client whose certificate a broker
refused). So the process ends as soon as Python's own exit handlers have run.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable

_NOT_WRITTEN = 120
"""Python's own status where what was printed could not be written."""


def ending_with(main: Callable[[], int]) -> int:
    """Runs `main`, whose result is the exit status of this process; 1 if it raises.

    To be called before anything else registers an exit handler: the first one registered runs last.
    """
    status, process = 1, os.getpid()

    def end() -> None:
        if os.getpid() != process:  # a child that was forked, which took over our handlers
            return
        logging.shutdown()  # its own handler was registered before ours
        os._exit(status if _flushed() else _NOT_WRITTEN)

    atexit.register(end)
    status = main()
    return status


def _flushed() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except (OSError, ValueError):
        return False
    return True
