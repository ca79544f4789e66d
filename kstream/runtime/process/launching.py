"""Real processes of workers: started with their handover, told commands through standard input, heard over a pipe."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from kstream.observe.throttle import Throttle
from kstream.runtime.process.report import Command, Handover, Report, decode, encode_command, encode_handover

log = logging.getLogger(__name__)
log.addFilter(Throttle())


class LocalProcesses:
    """Implements `handle.Processes`. Belongs to one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def start(self, handover: Handover) -> LocalProcess:
        return LocalProcess(self._selector, handover)

    def wait(self, seconds: float) -> Sequence[LocalProcess]:
        for key in list(self._selector.get_map().values()):
            key.data.flush()
        return [key.data for key, _ in self._selector.select(seconds)]


class LocalProcess:
    """Implements `handle.Process`."""

    def __init__(self, selector: selectors.BaseSelector, handover: Handover) -> None:
        reading, writing = os.pipe()
        handover.report_fd = writing
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kstream.runtime.process.child"],
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
            process_group=0,  # Ctrl-C in a terminal reaches only us; we tell the workers
        )
        os.close(writing)
        os.set_blocking(reading, False)
        self._selector, self._reports = selector, reading
        self._open, self._said = True, b""
        assert self._process.stdin is not None
        self._commands = self._process.stdin.fileno()
        self._unsent = encode_handover(handover) + b"\n"
        os.set_blocking(self._commands, False)
        selector.register(reading, selectors.EVENT_READ, self)
        self.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self) -> Sequence[Report]:
        reports: list[Report] = []
        while self._open:
            try:
                data = os.read(self._reports, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                self._close_reports()
                break
            *lines, self._said = (self._said + data).split(b"\n")
            for line in lines:
                try:
                    reports.append(decode(line))
                except msgspec.DecodeError as error:  # what it said before stands
                    log.error("a report of worker process %d cannot be read: %s", self.pid, error)
        return reports

    def tell(self, command: Command) -> None:
        self._unsent += encode_command(command) + b"\n"
        self.flush()

    def flush(self) -> None:
        """Writes what it has not been told yet, as far as it takes it."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._commands, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it has just ended: its successor is told at its start
            self._unsent = b""

    def signal(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def ended(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        self._close_reports()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _close_reports(self) -> None:
        if self._open:
            self._open = False
            self._selector.unregister(self._reports)
            os.close(self._reports)
