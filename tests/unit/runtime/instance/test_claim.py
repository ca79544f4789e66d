"""Identities: two processes cannot have one name in one state directory, and a restart has its name again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kstream.errors import IdentityInUse, StateDirectoryError
from kstream.runtime.cluster.naming import Identity, directory_name
from kstream.runtime.instance.claim import claim

HOLD = """
import sys
from pathlib import Path
from kstream.runtime.instance.claim import claim
name = sys.argv[2] if len(sys.argv) > 2 else None
held = claim(Path(sys.argv[1]), "app", name)
print(held.name, flush=True)
sys.stdin.read()
"""


def hold(directory: Path, *name: str) -> tuple[subprocess.Popen[str], str]:
    """Another process that claims a name until its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory), *name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_two_processes_cannot_have_one_name(tmp_path: Path) -> None:
    process, name = hold(tmp_path, "one")
    assert name == "one"
    with pytest.raises(IdentityInUse, match="'one' runs already") as caught:
        claim(tmp_path, "app", "one")
    assert "\n" not in str(caught.value)
    other = claim(tmp_path, "app", "two")
    process.kill()
    process.wait()
    again = claim(tmp_path, "app", "one")  # however the process ended
    assert (again.name, other.name) == ("one", "two")
    again.release()
    other.release()


def test_a_name_of_ones_own_is_kept_and_not_shared(tmp_path: Path) -> None:
    process, first = hold(tmp_path)
    mine = claim(tmp_path, "app", None)
    assert mine.name != first
    process.kill()
    process.wait()
    restarted = claim(tmp_path, "app", None)
    assert restarted.name == first
    mine.release()
    restarted.release()
    names = {claim(tmp_path, "app", None).name for _ in range(2)}
    assert names <= {mine.name, first}


def test_a_directory_of_another_app(tmp_path: Path) -> None:
    claim(tmp_path, "one", None).release()
    with pytest.raises(StateDirectoryError, match="belongs to app 'one', this is 'two'"):
        claim(tmp_path, "two", None)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateDirectoryError, match="choose another --state-dir"):
        claim(tmp_path / "state", "app", None)


def test_names_of_groups_never_meet() -> None:
    plain, isolated = Identity("app", "i", 0), Identity("app", "i", 0, "cpu")
    assert (plain.group, isolated.group) == ("app", "app-cpu")
    assert plain.member == "app-default-i-0"
    assert len({plain.member, isolated.member, Identity("app", "i", 1).member, Identity("app", "j", 0).member}) == 4


@pytest.mark.parametrize("name", ["a+b", "a/b", "ä", "a b"])
def test_directories_have_names_fit_for_a_file_system(name: str) -> None:
    made = directory_name(name)
    assert "/" not in made
    assert made.isascii()
    assert " " not in made


def test_different_names_make_different_directories() -> None:
    names = ["a+b", "a b", "a/b", "a%2Fb", "a%20b"]
    assert len({directory_name(name) for name in names}) == len(names)
