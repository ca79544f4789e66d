"""What is said of a command that replaces an app's state and does not come to its end."""

from __future__ import annotations

import pytest

from kstream.cli.savepoint.places import told_when_broken_off
from kstream.errors import StorageError


def test_what_was_begun_and_broken_off_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StorageError), told_when_broken_off("shop", "this restore") as begun:
        begun()
        raise StorageError("the disk is full")
    told = capsys.readouterr().err
    assert told == "kstream: broken off: until this restore is run again, to its end, app shop does not start\n"


def test_what_fails_before_it_began_changed_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StorageError), told_when_broken_off("shop", "this restore"):
        raise StorageError("no such place")
    assert capsys.readouterr().err == ""
