"""Log files that are rolled by size and by age, and outlive a full disk.

`x.log` is written; when it is rolled it becomes `x.log.1`, that becomes `x.log.2`, and so on up to the number kept.
Each process writes a file of its own. Ages end at multiples of `age` since the epoch (a day's at midnight UTC), so that
they need nothing remembered over a restart: a file was last written in this span of time or in one before.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from logging.handlers import BaseRotatingHandler
from pathlib import Path

from kstream.errors import ConfigError
from kstream.escape import escaped

_FULL = (errno.ENOSPC, errno.EDQUOT)


def file_of(path: str, worker: str | None) -> Path:
    """The file of one process: the supervisor's is the path itself, a worker's has its name before the suffix."""
    whole = Path(path)
    return whole if worker is None else whole.with_name(f"{whole.stem}-{worker}{whole.suffix}")


class RollingFile(BaseRotatingHandler):
    """Appends to a file. What cannot be written is left out, with one line on standard error for all of it.

    Args:
        size: bytes from which the file is rolled before the next line.
        age: seconds, see the module's text.
        keep: rolled files kept; with 0 the file is begun anew.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be opened, and that will not pass (a full disk may).
    """

    def __init__(self, path: Path, *, size: int, age: float, keep: int, clock: Callable[[], float] = time.time) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            if error.errno not in _FULL:
                raise ConfigError(f"log_file: {path} cannot be written: {error.strerror}; choose another") from None
        super().__init__(path, "a", encoding="utf-8", delay=True, errors="backslashreplace")
        self._size, self._age, self._keep, self._clock = size, age, keep, clock
        self._span = self._last_span()
        self._lost = 0  # lines, since the last that was written
        self._failed = self._unrolled = False

    def _last_span(self) -> int:
        """The span of time in which the file was last written; now, when it is not there or empty."""
        try:
            found = os.stat(self.baseFilename)
            when = found.st_mtime if found.st_size else self._clock()
        except FileNotFoundError:
            when = self._clock()
        return int(when // self._age)

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        if not self._failed and self._lost:
            lost, self._lost = self._lost, 0
            self._say(f"log file {self.baseFilename} is written again; {lost} lines were left out")

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        if self.stream is None:
            self.stream = self._open()
        span, written = int(self._clock() // self._age), os.fstat(self.stream.fileno()).st_size
        if not written:
            self._span = span
        return bool(written) and (written >= self._size or span != self._span)

    def doRollover(self) -> None:
        """Renames the files. Where that fails, the file is written on: no line is lost for it."""
        self._let_go()
        self._span = int(self._clock() // self._age)
        names = [self.baseFilename, *(f"{self.baseFilename}.{number}" for number in range(1, self._keep + 1))]
        try:
            if self._keep == 0:
                os.truncate(self.baseFilename, 0)
            for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
                if os.path.exists(newer):
                    os.replace(newer, older)
            self._unrolled = False
        except OSError as error:
            if not self._unrolled:
                self._say(f"log file {self.baseFilename} cannot be rolled ({error.strerror}): it is written on")
            self._unrolled = True

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by `emit` from its except clause."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)  # arguments that do not fit the text, say
            return
        self._failed = True
        if not self._lost:
            self._say(f"log file {self.baseFilename} cannot be written ({error.strerror}): lines are left out of it")
        self._lost += 1
        self._let_go()

    def _let_go(self) -> None:
        """The file is opened anew for the next line; what it had not written is among the lines left out."""
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError:  # the same trouble, which has been said
                return

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self._say(f"log file {self.baseFilename}: the last lines could not be written ({error.strerror})")

    def _say(self, text: str) -> None:
        """On standard error itself: the log must not be told of its own trouble."""
        if sys.stderr is not None:
            print(f"kstream: {escaped(text)}", file=sys.stderr, flush=True)
