"""Lines for a console: what others wrote forges none."""

from __future__ import annotations

import logging
import sys

from kstream.observe.lines import formatter


def test_neither_text_nor_field_nor_exception_forges_a_line() -> None:
    try:
        raise ValueError("oh\n12:00:00 [info] FORGED\x1b[2J")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "bad\nFORGED \x1b[31m", (), sys.exc_info())
    record.key = "k\nFORGED\x9b"
    for colors in (False, True):
        lines = formatter(True, colors, {}).format(record).split("\n")
        assert all(line.startswith("  ") for line in lines[1:] if line)
        assert "FORGED" in lines[0] and "\\n" in lines[0]
        if not colors:
            assert all(line.isprintable() for line in lines)
