"""Log files: rolled by size and age, over restarts, and a full disk disturbs nobody."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.observe import logs
from kstream.observe.rolling import RollingFile, file_of

DAY = 86_400.0


class Service:
    """Logs into a file, with a clock of its own; `restart` is the next process on the same file."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.path, self.now = path, 20_000 * DAY + 3600
        self._more = {"size": 100, "age": DAY, "keep": 3, **more}
        self.restart()

    def restart(self) -> None:
        self.handler = RollingFile(self.path, clock=lambda: self.now, **self._more)
        self.handler.setFormatter(logging.Formatter("%(message)s"))

    def log(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("x", logging.INFO, "f", 1, text, (), None))
        if self.path.exists():
            os.utime(self.path, (self.now, self.now))

    def files(self) -> dict[str, list[str]]:
        return {path.name: path.read_text().split() for path in sorted(self.path.parent.iterdir())}


def test_rolled_by_size_and_no_more_are_kept_than_wanted(tmp_path: Path) -> None:
    service = Service(tmp_path / "x.log", size=10)
    for number in range(11):
        service.log(f"line-{number:02}")  # 8 bytes each: a file has two when it is found to be 10 or more
    assert service.files() == {
        "x.log": ["line-10"],
        "x.log.1": ["line-08", "line-09"],
        "x.log.2": ["line-06", "line-07"],
        "x.log.3": ["line-04", "line-05"],
    }


def test_rolled_at_the_end_of_the_day_also_over_a_restart(tmp_path: Path) -> None:
    service = Service(tmp_path / "x.log")
    service.log("one")
    service.now += 20 * 3600
    service.restart()
    service.log("same-day")
    service.now += 4 * 3600
    service.log("next-day")
    service.now += DAY
    service.restart()
    service.log("third-day")
    assert service.files() == {"x.log": ["third-day"], "x.log.1": ["next-day"], "x.log.2": ["one", "same-day"]}


def test_an_empty_file_is_not_rolled(tmp_path: Path) -> None:
    service = Service(tmp_path / "x.log")
    service.now += 3 * DAY
    service.log("first")
    assert service.files() == {"x.log": ["first"]}


def test_with_none_kept_the_file_is_begun_anew(tmp_path: Path) -> None:
    service = Service(tmp_path / "x.log", size=1, keep=0)
    service.log("one")
    service.log("two")
    assert service.files() == {"x.log": ["two"]}


def test_each_process_has_a_file_of_its_own() -> None:
    assert file_of("/var/log/x.log", None) == Path("/var/log/x.log")
    assert file_of("/var/log/x.log", "1") == Path("/var/log/x-1.log")
    assert file_of("plain", "0") == Path("plain-0")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's full device")
def test_a_full_disk_is_said_once_and_the_service_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(tmp_path / "x.log")
    service.log("before")
    service.path.rename(tmp_path / "aside")
    service.path.symlink_to("/dev/full")
    service.handler._let_go()
    for number in range(5):
        service.handler.handle(logging.LogRecord("x", logging.INFO, "f", 1, f"lost-{number}", (), None))
    service.path.unlink()
    service.log("after")
    (one, two) = capsys.readouterr().err.splitlines()
    assert (
        one == f"kstream: log file {service.path} cannot be written (No space left on device): lines are left out of it"
    )
    assert two == f"kstream: log file {service.path} is written again; 5 lines were left out"
    assert service.files() == {"x.log": ["after"], "aside": ["before"]}


def test_a_file_that_cannot_be_renamed_is_written_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path / "x.log", size=1)

    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    service.log("one")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        service.log("two")
        service.log("three")
    service.log("four")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"kstream: log file {service.path} cannot be rolled (Permission denied): it is written on"
    assert service.files() == {"x.log": ["four"], "x.log.1": ["one", "two", "three"]}


def test_a_file_that_never_can_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        Service(tmp_path / "folder")
    assert str(caught.value) == f"log_file: {tmp_path}/folder cannot be written: Is a directory; choose another"


def test_the_settings_of_a_worker_lead_to_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure_from(Settings(log_file=str(tmp_path / "logs" / "x.log")), 1, app="bids", instance="a")
        logging.getLogger("user").info("hello", extra={"n": 1})
        logs.configure("INFO")  # closes the file
    finally:
        root.handlers[:], root.level = handlers, level
    (line,) = (tmp_path / "logs" / "x-1.log").read_text().splitlines()
    found = json.loads(line)
    assert (found["message"], found["app"], found["instance"], found["worker"], found["n"]) == (
        "hello",
        "bids",
        "a",
        1,
        1,
    )
    assert json.loads(capsys.readouterr().err)["message"] == "hello"
