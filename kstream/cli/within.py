"""Ends a command that takes too long. Nobody else would where it runs in an init container: probes begin with the
service."""

from __future__ import annotations

import os
import threading

from kstream.cli import human


def ends_within(command: str, seconds: float) -> None:
    """Ends the process with status 2, whatever it does then: loading an app runs code that may wait for ever."""

    out = human.lines(stderr=True)  # imported and made before anything can hang

    def end() -> None:
        out.print(f"kstream: {command} has not ended within {seconds:g} s: it is ended")
        out.file.flush()
        os._exit(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
