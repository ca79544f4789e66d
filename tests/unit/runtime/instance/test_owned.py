"""A state directory that another user prepared: its files are not taken, its links not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import StateDirectoryError
from kstream.runtime.instance import owned
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
    assert {path.name for path in files} == {"app", "layout", "one.lock", "web-token"}
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


def test_a_directory_that_is_used_already_is_closed_to_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As an older version left it, with the usual umask. A directory that was never used may be shared still."""
    caplog.set_level("INFO")
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    claim(state, "app", "one").release()
    assert state.stat().st_mode & 0o777 == 0o755
    state.chmod(0o2775)
    claim(state, "app", "one").release()
    assert state.stat().st_mode & 0o7777 == 0o2700
    assert f"{state} was open to others (2775): now only its owner enters it" in caplog.text
    caplog.clear()
    claim(state, "app", "one").release()
    assert not caplog.records


def chown(path: Path, user: int) -> None:
    try:
        os.chown(path, user, -1, follow_symlinks=False)
    except PermissionError:
        pytest.skip("only root gives files away")


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    chown(state, 12345)
    with pytest.raises(StateDirectoryError, match="state belongs to user 12345, this is user"):
        claim(state, "app", "one")
    assert not list(state.iterdir())


@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_what_another_user_put_into_it_is_refused(tmp_path: Path, kind: str) -> None:
    """Where a worker would keep its state, for example."""
    claim(tmp_path, "app", "one").release()
    odd = tmp_path / "app-default-one-0"
    if kind == "directory":
        odd.mkdir()
    elif kind == "link":
        odd.symlink_to(tmp_path / "elsewhere")
    else:
        odd.touch()
    chown(odd, 12345)
    with pytest.raises(StateDirectoryError, match="app-default-one-0 belongs to user 12345"):
        claim(tmp_path, "app", "one")


def test_what_is_roots_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume of Kubernetes, with lost+found. Its mode is not this user's to change."""
    if os.geteuid() != 0:
        pytest.skip("only root has files of root's")
    state = tmp_path / "state"
    (state / "lost+found").mkdir(parents=True)
    state.chmod(0o775)
    monkeypatch.setattr("kstream.runtime.instance.owned.ROOT", os.geteuid())
    owned.make_private(state)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    owned.make_private(state)
    owned.tighten(state)
    assert state.stat().st_mode & 0o777 == 0o775


def test_one_that_everybody_may_write_to_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o1777)
    claim(state, "app", "one").release()
    assert f"every user of this machine may write to the directory {state}" in caplog.text


def test_the_state_directory_may_be_a_link_and_what_is_in_it_not(tmp_path: Path) -> None:
    real, link = tmp_path / "disk", tmp_path / "state"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    claim(link, "app", "one").release()
    assert (real / "app").read_text() == "app"
    (tmp_path / "elsewhere").mkdir()
    for each in (real / "instances").iterdir():
        each.unlink()
    (real / "instances").rmdir()
    (real / "instances").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirectoryError, match="instances is a symbolic link"):
        claim(link, "app", "one")
    assert not list((tmp_path / "elsewhere").iterdir())
