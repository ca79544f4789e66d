"""Log lines. The library logs through `logging`; this formats its records: a console in a terminal, JSON elsewhere.

Fields given as `extra={...}` become fields of the line, as do those bound here (app, instance, worker).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_HANDLER: Final = "kstream"


def configure(level: str = "INFO", format: str = "auto", stream: TextIO | None = None, **bound: object) -> None:
    """Sends everything logged in this process to `stream` (standard error). Called again, it replaces what it set up.

    `format` is "console", "json" or "auto" (console when `stream` is a terminal). `bound` goes into every line.
    """
    stream = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.set_name(_HANDLER)
    handler.setFormatter(_formatter(console, stream.isatty(), bound))
    root = logging.getLogger()
    for old in [one for one in root.handlers if one.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


def _formatter(console: bool, colors: bool, bound: dict[str, object]) -> logging.Formatter:
    # structlog imports rich where it finds it, for coloured tracebacks. A worker must not carry it (DESIGN section 5),
    # and it triples the time this takes: while structlog is imported, rich is not there.
    hidden = "rich" not in sys.modules and "structlog" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
        import structlog.dev
        import structlog.stdlib
    finally:
        if hidden:
            del sys.modules["rich"]

    def bind(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**event, **{key: value for key, value in bound.items() if key not in event}}

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        bind,
    ]
    if console:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False))
        last: list[Processor] = [
            structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    else:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
        last = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _json(event: EventDict, **_: Any) -> str:
    import orjson

    # non-str keys and objects that JSON lacks must not cost the line
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
