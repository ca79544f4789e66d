"""Notices that a worker's loop stands, and says in what: a thread that only looks.

While user code does not return, the worker itself reports nothing. Its loop is not slowed down for this: it leaves the
time of its last turn, which it has at hand, and everything else is read off its stack by this thread.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
from asyncio import Handle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from kstream.operators.async_agent import AsyncAgent
from kstream.runtime.process.report import Held
from kstream.runtime.task.context import Context
from kstream.runtime.task.task import Task

STANDS_SECONDS: Final = 1.0
"""Since the loop's last turn. It turns ten times a second when there is nothing to do."""
LOOK_SECONDS: Final = 0.5

_KSTREAM: Final = str(Path(__file__).parents[2]) + "/"
_STANDARD: Final = sysconfig.get_path("stdlib") + "/"
_TURN: Final = Handle._run.__code__  # what asyncio runs each callback in
_DRIVE: Final = AsyncAgent.drive.__code__


class Watchdog:
    """Watches the thread that makes it.

    Args:
        beat: when the loop turned last, by `clock` (monotonic).
        say: called on the watchdog's thread, again and again while the loop stands.
    """

    def __init__(self, beat: Callable[[], float], say: Callable[[Held], None], clock: Callable[[], float]) -> None:
        self._beat, self._say, self._clock = beat, say, clock
        self._watched = threading.get_ident()
        self._over = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        seconds = self._clock() - self._beat()
        if seconds < STANDS_SECONDS:
            return
        frame = sys._current_frames().get(self._watched)
        if frame is not None:
            self._say(held_in(frame, seconds))


def held_in(frame: FrameType, seconds: float) -> Held:
    """What a thread does whose innermost frame this is."""
    found: tuple[str, str | None] | None = None
    mine = frame
    theirs: FrameType | None = None
    for one in _outwards(frame):
        if one.f_code is _TURN:
            break  # what is around it only turns the event loop
        if _is_kstreams(one):
            mine = mine if _is_kstreams(mine) else one
            found = _work_of(one)
            if found is not None:
                break
        elif not _is_standard(one):
            theirs = one
    task, record = found or (None, None)
    return Held(seconds, _place(theirs or mine), task, theirs is not None, record)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _work_of(frame: FrameType) -> tuple[str, str | None] | None:
    """The task whose record is worked on, and the record, where this frame is one that knows."""
    owner = frame.f_locals.get("self")
    if isinstance(owner, Task):
        return owner.name, owner.working_on
    if isinstance(owner, AsyncAgent) and frame.f_code is _DRIVE and isinstance(owner.cursor, Context):
        return owner.cursor.task, owner.cursor.working_on
    return None


def _is_kstreams(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_KSTREAM)


def _is_standard(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith("<frozen") or (name.startswith(_STANDARD) and "site-packages" not in name)


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({Path(code.co_filename).name}, line {frame.f_lineno})"
