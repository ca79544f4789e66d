"""What was logged lately at ERROR, for the status page, and how often something was logged from WARNING up."""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kstream.observe.status import ErrorStatus

KEPT: Final = 50
MAX_TEXT: Final = 2_000
MAX_TRACE: Final = 8_000
"""Characters; of a traceback the last ones, which say what happened."""

_LEVELS = ((logging.CRITICAL, "CRITICAL"), (logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"))


class Recent(logging.Handler):
    """Counts lines and keeps the last `KEPT` of those at ERROR or above until they are taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.worker: str | None = None
        self._counts: Counter[str] = Counter()
        self._kept: deque[ErrorStatus] = deque(maxlen=KEPT)
        self._traceback = logging.Formatter().formatException

    def emit(self, record: logging.LogRecord) -> None:
        self.count(record.levelno)
        if record.levelno < logging.ERROR:
            return
        try:
            self._kept.append(self._status(record))
        except Exception:  # arguments that do not fit the text: said on standard error, as every handler does
            self.handleError(record)

    def count(self, level: int) -> None:
        """One line more, of this level; those that a filter held back are counted by it."""
        for least, name in _LEVELS:
            if level >= least:
                self._counts[name] += 1
                return

    def _status(self, record: logging.LogRecord) -> ErrorStatus:
        from kstream.observe.status import ErrorStatus

        has_trace = record.exc_info and record.exc_info[0] is not None
        trace = self._traceback(record.exc_info) if has_trace else None  # type: ignore[arg-type]  # it is not None
        task = getattr(record, "task", None)
        return ErrorStatus(
            at=record.created,
            text=_unicode(record.getMessage()[:MAX_TEXT]),
            worker=self.worker,
            task=None if task is None else str(task),
            logger=record.name,
            trace=trace and _unicode(trace[-MAX_TRACE:]),
        )

    def take(self) -> list[ErrorStatus]:
        """The lines kept, oldest first. They are forgotten here."""
        self.acquire()
        try:
            kept = list(self._kept)
            self._kept.clear()
            return kept
        finally:
            self.release()

    def counts(self) -> dict[str, int]:
        """Lines since the process began, by level."""
        return dict(self._counts)


def _unicode(text: str) -> str:
    """Names of files, among others, may hold what is no character: it could not be sent on."""
    return text.encode(errors="backslashreplace").decode()


RECENT: Final = Recent()
"""That of the process; `logs.configure` puts it among the handlers."""
