"""The start of an app by a program of the user's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import StateDirectoryError
from kstream.starting import prepared


def test_what_a_program_did_to_logging_hides_no_line_of_ours(tmp_path: Path) -> None:
    """A program that ran its app by itself was told nothing of a task that failed."""
    ours = logging.getLogger("kstream.starting")
    ours.__class__ = logging.Logger  # as it is in a program that has started nothing yet
    ours.disabled = True  # what dictConfig({"version": 1}) does to all that there are
    (tmp_path / "state").write_text("a file")
    app = kstream.App("started")
    app.stream(app.topic("in", key=str, value=str)).peek(print)
    with (
        pytest.raises(StateDirectoryError),
        prepared(Settings(state_dir=str(tmp_path / "state")), app.topology(), ("default",)),
    ):
        pass
    assert not ours.disabled
