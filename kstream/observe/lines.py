"""Log records as lines: one JSON object each, or text for a console."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from kstream.escape import escaped

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


def formatter(console: bool, colors: bool, bound: Mapping[str, object]) -> logging.Formatter:
    """Formats as text for a console, or as JSON; `bound` goes into every line that has no such fields of its own."""
    # structlog imports rich where it finds it, for coloured tracebacks. A worker must not carry it, and it triples the
    # time this takes: while structlog is imported, rich is not there.
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

    def escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}

    def trace(out: TextIO, error: Any) -> None:
        """Its lines stand a little to the right: none can be taken for a line of the log."""
        written = io.StringIO()
        structlog.dev.plain_traceback(written, error)
        out.write("\n".join(f"  {escaped(line)}" if line else "" for line in written.getvalue().split("\n")))

    if console:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False))
        last: list[Processor] = [
            escape,
            structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, exception_formatter=trace),
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
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # nor may text that is no UTF-8: half a character, a byte of the name of a file
        import json

        text = json.dumps(event, default=str, skipkeys=True, ensure_ascii=False)
        return text.encode(errors="replace").decode()
