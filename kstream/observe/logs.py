"""Log lines of a process. The library and its users log through `logging`; this says what becomes of it.

A line goes to standard error (a console in a terminal, JSON elsewhere), to a file where one is wanted, and from WARNING
up into the counts and the recent errors that the status page shows. Its fields are those given as `extra={...}`, those
of the record that is processed meanwhile (task, topic, partition, offset), and those bound here (app, instance,
worker). See docs/logs.md.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TextIO

from kstream.errors import ConfigError
from kstream.observe.recent import RECENT

if TYPE_CHECKING:
    from kstream.config import Settings
    from kstream.observe.status import ErrorStatus

BUSINESS: Final[MappingProxyType[str, object]] = MappingProxyType({"marker": "BUSINESS"})
"""Marks a line as one about what the service is for: `log.info("...", extra=kstream.BUSINESS | {"order": 5})`."""
PERFORMANCE: Final[MappingProxyType[str, object]] = MappingProxyType({"marker": "PERFORMANCE"})
"""Marks a line as one about speed; kstream's own on slow records and restores have it."""

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_OURS: Final = "kstream"

_where: Callable[[], Mapping[str, object]] = dict
_bound: dict[str, object] = {}  # what the formatters made last put into every line


def located_by(where: Callable[[], Mapping[str, object]]) -> None:
    """From now on each line has the fields that `where` gives when the line is made. It must not raise."""
    global _where
    _where = where


class Located(logging.Filter):
    """Adds the fields of the current record. For handlers: a logger's filters miss what its children log."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _where().items():
            record.__dict__.setdefault(name, value)
        return True


def configure(
    level: str = "INFO",
    format: str = "auto",
    stream: TextIO | None = None,
    *,
    file: logging.Handler | None = None,
    **bound: object,
) -> None:
    """Sends everything logged in this process to `stream` (standard error) and to `file`. Called again, it replaces
    what it set up.

    `format` is "console", "json" or "auto" (console when `stream` is a terminal; a file has JSON then). `bound` goes
    into every line.
    """
    global _bound
    from kstream.observe.lines import formatter

    _bound = bound
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = logging.StreamHandler(stream)
    console.setFormatter(formatter(format == "console" or (format == "auto" and terminal), terminal, bound))
    handlers: list[logging.Handler] = [RECENT, console]
    if file is not None:
        file.setFormatter(formatter(format == "console", False, bound))
        handlers.append(file)
    worker = bound.get("worker")
    RECENT.worker = None if worker is None else str(worker)
    root = logging.getLogger()
    for old in [one for one in root.handlers if one.get_name() == _OURS]:
        root.removeHandler(old)
        if isinstance(old, logging.FileHandler):
            old.close()
    for handler in handlers:
        handler.set_name(_OURS)
        handler.filters = [Located()]
        root.addHandler(handler)
    root.setLevel(level)
    hold_on()


class _Enduring(logging.Logger):
    """One of kstream's own. A configuration of the program disables all loggers that it does not name, unless it is
    told not to: errors would be lost without a word. Its level can be set, as that of any other."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, _: bool) -> None:
        return


def hold_on() -> None:
    """From now on kstream's loggers stay enabled, and what they log is seen on the status page, whatever the program
    does, or did, to `logging`."""
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if type(logger) is logging.Logger and (name == _OURS or name.startswith(f"{_OURS}.")):
            logger.__class__ = _Enduring
    if RECENT.get_name() == _OURS and RECENT not in logging.getLogger().handlers:
        logging.getLogger().addHandler(RECENT)


def configure_from(settings: Settings, worker: str | None = None, **bound: object) -> None:
    """`configure` as the settings say, in the process of a worker or (None) in that which started it.

    Raises:
        ConfigError: the log file cannot be written.
    """
    file = None
    if settings.log_file is not None:
        from kstream.observe.rolling import RollingFile, file_of

        file = RollingFile(
            file_of(settings.log_file, worker),
            size=settings.log_file_size,
            age=settings.log_file_age,
            keep=settings.log_file_keep,
        )
    if worker is not None:
        bound["worker"] = worker
    configure(settings.log_level, settings.log_format, None, file=file, **bound)


def bind(**more: object) -> None:
    """From now on these fields go into every line too: what was not known yet when `configure` was called."""
    _bound.update(more)


def set_level(level: str, logger: str | None = None) -> None:
    """Changes the least level that is logged, of a logger and those below it, or of all that have none of their own.

    Raises:
        ConfigError: there is no such level.
    """
    known = level.strip().upper()
    if known not in LEVELS:
        raise ConfigError(f"log level: {level!r} is none of {', '.join(LEVELS)}")
    logging.getLogger(logger).setLevel(known)


def recent() -> list[ErrorStatus]:
    """The lines logged at ERROR or above since the last call, the latest 50 at most, oldest first."""
    return RECENT.take()


def counts() -> dict[str, int]:
    """Lines since the process began by level, from WARNING up; those that were held back as repetitions count."""
    return RECENT.counts()
