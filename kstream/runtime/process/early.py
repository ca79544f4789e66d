"""Processes of workers that begin before anybody knows what they are to do: they import what a worker needs, half a
second and more, beside the supervisor's own imports and its look at the topics. Each then waits for its handover.

Imports next to nothing: this is done first of all.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def _surroundings() -> tuple[str, dict[str, str]]:
    """What a process takes over from the one that starts it, as far as an app's module may change it."""
    return os.getcwd(), dict(os.environ)


@dataclass(slots=True)
class Begun:
    """A process that waits for its handover.

    Attributes:
        commands, reports: our ends of its pipes.
        queries: our end of the socket over which it answers queries of its state, if it does.
    """

    process: subprocess.Popen[bytes]
    commands: int
    reports: int
    queries: socket.socket
    surroundings: tuple[str, dict[str, str]] = field(default_factory=_surroundings)

    def drop(self) -> None:
        """It is not wanted: nothing of the user's has run in it."""
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.reports)
        self.queries.close()


_waiting: list[Begun] = []


def _begin() -> Begun:
    told, commands = os.pipe()
    reports, said = os.pipe()
    queries, asked = socket.socketpair()
    theirs = told, said, asked.fileno()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "kstream.runtime.process.child", *map(str, theirs)],
            stdin=subprocess.DEVNULL,  # what user code starts inherits it
            pass_fds=theirs,
            process_group=0,  # Ctrl-C in a terminal reaches only us; we tell the workers
        )
    except BaseException:
        os.close(commands)
        os.close(reports)
        queries.close()
        raise
    finally:
        os.close(told)
        os.close(said)
        asked.close()
    return Begun(process, commands, reports, queries)


@contextmanager
def beginning(count: int = 1) -> Iterator[None]:
    """So many wait from now on. Those that nobody took until the block ends go then."""
    try:
        while len(_waiting) < count:
            _waiting.append(_begin())
        yield
    finally:
        drop()


def drop() -> None:
    """None is wanted."""
    while _waiting:
        _waiting.pop().drop()


def take() -> Begun:
    """One that waits, or else a new one. The app's module may have set a variable of the environment, say, since one
    was begun: that one is not taken."""
    now = _surroundings()
    while _waiting:
        begun = _waiting.pop(0)
        if begun.surroundings == now:
            return begun
        begun.drop()
    return _begin()
