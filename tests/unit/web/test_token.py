"""The token: given, kept, or made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kstream.errors import StateDirectoryError
from kstream.web.token import token_for


def test_a_token_that_is_set_is_the_token_and_nothing_is_written(tmp_path: Path) -> None:
    assert token_for("mine", tmp_path / "state") == "mine"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("given", [None, ""])
def test_without_one_it_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, given: str | None) -> None:
    token = token_for(given, tmp_path / "state")
    path = tmp_path / "state" / "web-token"
    assert len(token) >= 32
    assert path.read_text() == token + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert token_for(given, tmp_path / "state") == token
    assert [one.name for one in path.parent.iterdir()] == ["web-token"]


def test_tokens_differ(tmp_path: Path) -> None:
    assert token_for(None, tmp_path / "a") != token_for(None, tmp_path / "b")


def test_a_loose_mode_is_mended_and_an_empty_file_filled(tmp_path: Path) -> None:
    path = tmp_path / "web-token"
    path.write_text("kept\n")
    path.chmod(0o644)
    assert token_for(None, tmp_path) == "kept"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("\n")
    assert len(token_for(None, tmp_path)) >= 32


TOGETHER = """
import os, sys
from pathlib import Path
from kstream.web.token import token_for

directory = Path(sys.argv[1])
wait, go = os.pipe()
children = []
for number in range(8):
    if (child := os.fork()) == 0:
        os.close(go)
        os.read(wait, 1)  # until the parent closes its end
        (directory / str(number)).write_text(token_for(None, directory / "state"))
        sys.exit()
    children.append(child)
os.close(go)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
"""


def test_instances_that_start_together_agree(tmp_path: Path) -> None:
    """Processes, because the file that is linked is named after the process. They are forked by one without threads:
    here a thread of another test may hold a lock, which a child would wait for."""
    subprocess.run([sys.executable, "-c", TOGETHER, str(tmp_path)], check=True, timeout=100)
    assert len({(tmp_path / str(number)).read_text() for number in range(8)}) == 1


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match=r"web-token: .*; correct the file, or set web_token"):
        token_for(None, tmp_path / "file")
