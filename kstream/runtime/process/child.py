"""The process of one worker: `python -m kstream.runtime.process.child COMMANDS REPORTS [QUERIES]`, started by the
supervisor (early.py).

COMMANDS, REPORTS and QUERIES (a socket, for queries of state) are descriptors that no child of this process inherits.
The handover comes first over COMMANDS; when that closes, the supervisor has ended, and the worker stops cleanly. It
imports neither pydantic nor the command line.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from kstream.config import Settings
from kstream.ending import ending_with
from kstream.errors import (
    InstanceFenced,
    KafkaUnavailable,
    KStreamError,
    RestartsExhausted,
    StateDirectoryError,
    UsageError,
)
from kstream.observe import logs
from kstream.observe.catalogue import Series
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process import allocator
from kstream.runtime.process.garbage import GarbageCollection
from kstream.runtime.process.isolation import end_own_group, keep_from_children
from kstream.runtime.process.making import make_worker
from kstream.runtime.process.program import load
from kstream.runtime.process.report import Command, Handover, decode_handover, one_line
from kstream.runtime.process.reporting import Commands, Reporter
from kstream.runtime.process.series import series_besides
from kstream.runtime.process.watchdog import Watchdog
from kstream.runtime.worker.loop import StreamWorker

log = logging.getLogger(__name__)

_PASSING = (KafkaUnavailable, StateDirectoryError)
"""Errors that may be over at the next start: no brokers, a full disk, a predecessor that still holds the state."""

GC_THRESHOLDS = (50_000, 20, 50)
"""Batches make many objects that go without a cycle: the collector looks less often than by default (700, 10, 10)."""


def main() -> int:
    bounded = allocator.bound()
    faulthandler.enable()  # a crash in native code says where it was
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing is begun: a clean end
    told, reports, *queries = map(int, sys.argv[1:])
    keep_from_children(told, reports, *queries)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what user code prints is there at once, in a pipe too
    line = _first_line(told)
    if not line:  # the supervisor has ended meanwhile
        return 1
    handover: Handover = decode_handover(line)
    settings = Settings.from_json(bytes(handover.settings))
    commands = Commands(told)
    atexit.register(end_own_group, when=lambda: commands.ended)  # else the supervisor does it
    reporter = Reporter(
        reports,
        commands,
        time.monotonic,
        more=partial(series_besides, GarbageCollection()),
        errors=logs.recent,
        obey=obey,
    )
    watchdog = Watchdog(lambda: reporter.turned, reporter.stands, time.monotonic)
    watchdog.start()
    worker: StreamWorker | None = None
    try:
        identity = Identity(handover.app, handover.instance, handover.index, handover.group)
        logs.configure_from(settings, identity.worker, app=handover.app, instance=handover.instance)
        obey(handover.command)
        sys.path[:0] = [entry for entry in handover.path if entry not in sys.path]
        app: Any = load(handover.program)
        logs.hold_on()  # whatever the app's modules did to logging
        give_back = allocator.GiveBack() if bounded else None
        worker = make_worker(app, identity, settings, handover.partitions, give_back=give_back)
        worker.paused = bool(handover.command.paused)
        for descriptor in queries if settings.state_queries else ():
            reporter.also.append(_answer_queries(descriptor, worker))
        signal.signal(signal.SIGTERM, _stopping(worker))
        gc.collect()
        gc.freeze()  # what was loaded so far stays: the collector need not look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        worker.run(reporter)
        watchdog.stop()
        reporter.last(worker)
    except InstanceFenced as error:
        reporter.last(worker, stopped_by=one_line(error), usage=True, fenced=True)
        return 2
    except KStreamError as error:
        usage = isinstance(error, UsageError) and not isinstance(error, _PASSING)
        if not usage:  # otherwise the supervisor says it, in one line
            log.error("%s", error, exc_info=None if isinstance(error, KafkaUnavailable) else error.__cause__)
        exhausted = isinstance(error, RestartsExhausted)
        reporter.last(worker, stopped_by=one_line(error), usage=usage, exhausted=exhausted)
        return error.exit_status
    except (Exception, SystemExit) as error:  # a defect, or user code that ends the process where nobody expects it
        why = f"{type(error).__name__}: {one_line(error)}"
        log.critical("the worker process ends: %s", why, exc_info=error)
        reporter.last(worker, stopped_by=why)
        return 1
    return 0


def obey(command: Command) -> None:
    for name, level in command.log_levels.items():
        logs.set_level(level, name or None)


def _answer_queries(descriptor: int, worker: StreamWorker) -> Callable[[], list[Series]]:
    """Answers them from now on. Returns what tells how many."""
    from kstream.runtime.process.queries import QueryServer
    from kstream.runtime.worker.global_view import GlobalView

    tables = [GlobalView(copy) for copy in worker.tables.copies.values()]
    server = QueryServer(descriptor, lambda: [*worker.tasks.values(), *tables])
    server.start()
    return server.series


def _stopping(worker: StreamWorker) -> Callable[..., None]:
    """What SIGTERM does: the first stops the worker, the second ends the process at once."""
    signals = count()

    def stop(*_: object) -> None:
        if next(signals):
            os._exit(1)
        worker.stop()

    return stop


def _first_line(descriptor: int) -> bytes:
    """The handover, byte by byte so that no command behind it is read away; nothing when it did not come."""
    line = bytearray()
    while (byte := os.read(descriptor, 1)) != b"\n":
        if not byte:
            return b""
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(ending_with(main))
