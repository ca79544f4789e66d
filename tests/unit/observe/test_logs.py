"""Log lines as JSON and for the console."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import sys
import time
from collections.abc import Iterator

import pytest

import kstream
from kstream.errors import ConfigError
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
    logs.configure("INFO", "auto", stream, app="bids", worker="1")
    logging.getLogger("kstream.task").info("restored %d", 5, extra={"task": "0/1", "odd": {1: object}})
    logging.getLogger("kstream.task").debug("not shown")
    (line,) = lines(stream)
    assert line["message"] == "restored 5"
    assert (line["app"], line["worker"], line["task"]) == ("bids", "1", "0/1")
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


def test_text_that_is_no_text_costs_no_line() -> None:
    """As errors about names of files have it, or values with half a character."""
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    (handler,) = [one for one in logging.getLogger().handlers if getattr(one, "stream", None) is stream]
    try:
        raise ValueError("caf\udce9")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "no \ud800", None, sys.exc_info())
    record.odd = {1: object, "\ud801": "\udce9"}
    handler.handle(record)  # to ours alone: pytest's own would be sent from process to process, which such text is not
    (line,) = lines(stream)
    assert (line["message"], line["odd"]) == ("no ?", {"1": "<class 'object'>", "?": "?"})
    assert "ValueError: caf?" in str(line["exception"])


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


# ---- markers, levels, what is bound


def test_markers_merge_with_other_fields() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    log = logging.getLogger("x")
    log.info("sold", extra=kstream.BUSINESS)
    log.info("sold", extra=kstream.BUSINESS | {"order": 5})
    log.info("restored", extra=kstream.PERFORMANCE | {"seconds": 1.5})
    assert [(line["marker"], line.get("order"), line.get("seconds")) for line in lines(stream)] == [
        ("BUSINESS", None, None),
        ("BUSINESS", 5, None),
        ("PERFORMANCE", None, 1.5),
    ]


def test_what_is_bound_later_is_in_later_lines() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream, app="bids")
    logging.getLogger("x").info("before")
    logs.bind(instance="a-1")
    logging.getLogger("x").info("after")
    logging.getLogger("x").info("its own", extra={"instance": "other"})
    assert [line.get("instance") for line in lines(stream)] == [None, "a-1", "other"]
    assert all(line["app"] == "bids" for line in lines(stream))


def test_levels_change_at_run_time() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    talkative = logging.getLogger("talkative.one")
    try:
        talkative.debug("no")
        logs.set_level("debug", "talkative")
        talkative.debug("yes")
        logging.getLogger("other").debug("no")
        logs.set_level("ERROR")
        logging.getLogger("other").warning("no")
        talkative.debug("yes, it has a level of its own")
    finally:
        logging.getLogger("talkative").setLevel(logging.NOTSET)
    assert [line["message"] for line in lines(stream)] == ["yes", "yes, it has a level of its own"]


@pytest.mark.parametrize("level", ["LOUD", "", "10", "NOTSET"])
def test_a_level_that_is_none_is_refused_in_one_line(level: str) -> None:
    before = logging.getLogger().level
    with pytest.raises(ConfigError) as caught:
        logs.set_level(level)
    assert str(caught.value) == f"log level: {level!r} is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"
    assert logging.getLogger().level == before


# ---- for the status page


def test_errors_are_kept_until_they_are_taken_and_warnings_counted() -> None:
    logs.configure("INFO", "json", io.StringIO(), worker="3")
    logs.recent()
    before = logs.counts()
    log = logging.getLogger("kstream.some")
    log.info("nothing")
    log.warning("careful")
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("record %d failed", 7, extra={"task": "clicks/1"})
    log.critical("worse")
    first, second = logs.recent()
    assert (first.text, first.worker, first.task, first.logger) == ("record 7 failed", "3", "clicks/1", "kstream.some")
    assert first.trace is not None and first.trace.endswith("ValueError: boom")
    assert abs(first.at - time.time()) < 60
    assert (second.text, second.task, second.trace) == ("worse", None, None)
    assert logs.recent() == []
    counted = {level: count - before.get(level, 0) for level, count in logs.counts().items()}
    assert counted == {"WARNING": 1, "ERROR": 1, "CRITICAL": 1}


def test_only_the_latest_errors_are_kept() -> None:
    logs.configure("INFO", "json", io.StringIO())
    logs.recent()
    for number in range(60):
        logging.getLogger("x").error("error %d", number)
    assert [one.text for one in logs.recent()] == [f"error {number}" for number in range(10, 60)]


def test_arguments_that_do_not_fit_cost_a_line_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own would raise
    logs.configure("INFO", "json", stream)
    logging.getLogger("x").error("%d", "not a number")
    logging.getLogger("x").error("fine")
    assert [line["message"] for line in lines(stream)] == ["fine"]
    assert "TypeError" in capsys.readouterr().err


class TestTheProgramConfiguresLoggingToo:
    """`logging.config.dictConfig` disables every logger that it does not name, unless it is told not to."""

    @pytest.fixture
    def stream(self) -> Iterator[io.StringIO]:
        stream = io.StringIO()
        logging.getLogger("kstream.made.before")
        logs.configure("INFO", "json", stream)
        yield stream
        for logger in logging.Logger.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = False  # those of other tests too

    def test_our_errors_still_appear(self, stream: io.StringIO) -> None:
        ours = logging.getLogger("kstream.made.before")
        logging.config.dictConfig({"version": 1})
        ours.error("task in/0 stopped")
        assert "task in/0 stopped" in stream.getvalue() and not ours.disabled

    def test_before_ours(self, stream: io.StringIO) -> None:
        late = logging.getLogger("kstream.made.later")
        logging.config.dictConfig({"version": 1})
        assert late.disabled
        logs.hold_on()
        late.error("the disk is full")
        assert "the disk is full" in stream.getvalue()

    def test_its_own_handlers_take_over_and_the_page_still_sees_errors(self, stream: io.StringIO) -> None:
        own = {"class": "logging.NullHandler"}
        logging.config.dictConfig({"version": 1, "handlers": {"own": own}, "root": {"handlers": ["own"]}})
        logs.hold_on()
        logs.recent()
        logging.getLogger("kstream.made.before").error("task in/0 stopped")
        assert [error.text for error in logs.recent()] == ["task in/0 stopped"] and stream.getvalue() == ""

    def test_levels_are_still_the_users(self, stream: io.StringIO) -> None:
        logs.hold_on()
        ours = logging.getLogger("kstream.made.before")
        logs.set_level("CRITICAL", ours.name)
        try:
            ours.error("not wanted")
        finally:
            ours.setLevel(logging.NOTSET)
        assert stream.getvalue() == ""
