"""Real processes of workers: started with their handover, told commands over one pipe, heard over another."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections.abc import Sequence

import msgspec

from kstream.observe.throttle import Throttle
from kstream.runtime.process.early import take
from kstream.runtime.process.isolation import end_group
from kstream.runtime.process.report import Command, Handover, Report, decode, encode_command, encode_handover

log = logging.getLogger(__name__)
log.addFilter(Throttle())


class LocalProcesses:
    """Implements `handle.Processes`. Belongs to one thread.

    Args:
        queries: whether they answer queries of their state.
    """

    def __init__(self, queries: bool = False) -> None:
        self._selector, self._queries = selectors.DefaultSelector(), queries

    def start(self, handover: Handover) -> LocalProcess:
        return LocalProcess(self._selector, handover, self._queries)

    def wait(self, seconds: float) -> Sequence[LocalProcess]:
        for key in list(self._selector.get_map().values()):
            key.data.flush()
        return [key.data for key, _ in self._selector.select(seconds)]


class LocalProcess:
    """Implements `handle.Process`."""

    def __init__(self, selector: selectors.BaseSelector, handover: Handover, queries: bool = False) -> None:
        begun = take()
        self._process, self._commands, self._reports = begun.process, begun.commands, begun.reports
        self._queries: socket.socket | None = begun.queries
        if not queries and (unwanted := self.take_queries()) is not None:
            unwanted.close()
        os.set_blocking(self._reports, False)
        os.set_blocking(self._commands, False)
        self._selector = selector
        self._open, self._said = True, b""
        self._unsent = encode_handover(handover) + b"\n"
        selector.register(self._reports, selectors.EVENT_READ, self)
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
                    log.error("a report of worker process %d cannot be decoded: %s", self.pid, error)
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

    def take_queries(self) -> socket.socket | None:
        taken, self._queries = self._queries, None
        return taken

    def signal(self, how: signal.Signals) -> None:
        if self._process.returncode is None:  # its number is its own until `ended` has waited for it
            os.kill(self.pid, how)

    def ended(self) -> int | None:
        """Ends with it what it started and what is in its process group still, before its number can be another's."""
        if self._process.returncode is None and _has_ended(self.pid):
            end_group(self.pid)
            self._process.wait()
        return self._process.returncode

    def close(self) -> None:
        self._close_reports()
        os.close(self._commands)
        if (untaken := self.take_queries()) is not None:
            untaken.close()

    def _close_reports(self) -> None:
        if self._open:
            self._open = False
            self._selector.unregister(self._reports)
            os.close(self._reports)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended. It is not waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
