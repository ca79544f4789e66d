"""`kstream page`: which instances run on a state directory, and where their pages are."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import msgspec
import pytest

from kstream.cli import main
from kstream.runtime.instance.claim import claim
from kstream.web.local import Page, forget, running, tell

URL = "http://127.0.0.1:8010"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [one for one in os.environ if one.startswith("KSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSTREAM_STATE_DIR", str(tmp_path / "state"))
    claim(tmp_path / "state", "shop", "a")
    return tmp_path / "state"


def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_pages_of_instances_that_run(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(state, "a", URL)
    tell(state, "b", "https://127.0.0.1:8011")
    (state / "instances" / "died.page").write_bytes(msgspec.json.encode(Page(ended(), "http://127.0.0.1:8012")))
    (state / "instances" / "half.page").write_bytes(b'{"pid": 1')
    assert main(["page"]) == 0
    token = (state / "web-token").read_text().strip()
    assert capsys.readouterr().out.splitlines() == [f"{URL}/#token={token}", f"https://127.0.0.1:8011/#token={token}"]
    forget(state, "a")
    forget(state, "a")
    assert running(state) == ["https://127.0.0.1:8011"]
    assert (state / "instances" / "b.page").stat().st_mode & 0o077 == 0


def test_containers_that_share_a_directory_say_the_same_once(state: Path) -> None:
    tell(state, "a", URL)
    tell(state, "b", URL)
    assert running(state) == [URL]


def test_a_token_of_ones_own(state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KSTREAM_WEB_TOKEN", "a/b#c%and")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)) or len(opened) < 2)
    tell(state, "a", URL)
    assert main(["page", "--open"]) == 0
    assert opened == [capsys.readouterr().out.strip()] == [f"{URL}/#token=a%2Fb%23c%25and"]
    assert main(["page", "--open"]) == 2
    assert "open the address by hand" in capsys.readouterr().err


def test_nobody_there_is_one_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["page"], ["page", "--set", "state_dir=/nowhere"]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "no instance with a status page runs" in err


def test_an_instance_that_cannot_write_it_down_runs_all_the_same(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    (state / "instances" / "a.page").mkdir()
    tell(state, "a", URL)
    forget(state, "a")
    tell(state / "gone", "a", URL)
    assert [one.getMessage().split(":")[0] for one in caplog.records if one.levelname == "WARNING"] == [
        "kstream page will not find this instance"
    ] * 2
