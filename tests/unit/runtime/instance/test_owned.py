"""A state directory that another user prepared: its files are not taken, its links not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import StateDirectoryError
from kstream.runtime.instance.claim import claim
from kstream.web.token import token_for


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask-0", "umask-022", "umask-077"])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("any_umask")
def test_only_its_owner_enters_what_is_made(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    claim(state, "app", "one").release()
    token_for(None, state)
    assert [path.stat().st_mode & 0o777 for path in (state, state / "instances")] == [0o700, 0o700]
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"app", "one.lock", "web-token"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("name", ["app", "instances/one.lock", "web-token"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    state, target = tmp_path / "state", tmp_path / "target"
    (state / "instances").mkdir(parents=True)
    target.write_text("app")
    target.chmod(0o644)
    (state / name).symlink_to(target)
    with pytest.raises(StateDirectoryError):
        claim(state, "app", "one").release()
        token_for(None, state)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("app", 0o644)


@pytest.mark.parametrize("name", ["app", "instances/one.lock", "web-token"])
def test_a_file_of_another_user_is_not_taken(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "instances").mkdir()
    (tmp_path / name).write_text("app")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateDirectoryError, match="is not a file of this user"):
        claim(tmp_path, "app", "one").release() if name != "web-token" else token_for(None, tmp_path)


@pytest.mark.parametrize("name", ["app", "instances/one.lock", "web-token"])
def test_a_pipe_does_not_hold_it_up(tmp_path: Path, name: str) -> None:
    (tmp_path / "instances").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(StateDirectoryError):
        claim(tmp_path, "app", "one").release() if name != "web-token" else token_for(None, tmp_path)
