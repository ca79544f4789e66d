"""Log lines as JSON and for the console."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from kstream.observe import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_what_is_bound_and_extra() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream, app="bids", worker=1)
    logging.getLogger("kstream.task").info("restored %d", 5, extra={"task": "0/1", "odd": {1: object}})
    logging.getLogger("kstream.task").debug("not shown")
    (line,) = lines(stream)
    assert line["message"] == "restored 5"
    assert (line["app"], line["worker"], line["task"]) == ("bids", 1, "0/1")
    assert (line["level"], line["logger"]) == ("info", "kstream.task")
    assert str(line["timestamp"]).endswith("Z")


def test_exceptions_stay_on_one_line() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stream)
    assert "ValueError: boom" in str(line["exception"])


def test_configured_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("INFO", "json", first)
    logs.configure("WARNING", "console", second, instance="a-1")
    logging.getLogger("x").info("no")
    logging.getLogger("x").warning("yes", extra={"offset": 7})
    assert first.getvalue() == ""
    text = second.getvalue()
    assert "yes" in text and "offset" in text and "instance" in text and "a-1" in text
    assert "\x1b" not in text
