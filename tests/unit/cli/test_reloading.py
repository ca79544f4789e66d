"""Which files of a project count as changed, and what `kstream dev` refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kstream.cli import main
from kstream.cli.reloading import SourceFiles


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_new_different_and_gone_files_are_told_once(tmp_path: Path) -> None:
    write(tmp_path / "app.py", "a = 1")
    write(tmp_path / "shop" / "rules.py", "b = 1")
    files = SourceFiles(tmp_path)
    assert files.changed() == []
    write(tmp_path / "shop" / "rules.py", "b = 22")
    write(tmp_path / "new.py", "")
    write(tmp_path / "kstream.toml", "workers = 1")
    assert files.changed() == ["kstream.toml", "new.py", "shop/rules.py"]
    (tmp_path / "app.py").unlink()
    assert files.changed() == ["app.py"]
    assert files.changed() == []


def test_the_same_size_at_another_time_is_a_change(tmp_path: Path) -> None:
    write(tmp_path / "app.py", "a = 1")
    files = SourceFiles(tmp_path)
    os.utime(tmp_path / "app.py", ns=(1, 1))
    assert files.changed() == ["app.py"]


@pytest.mark.parametrize(
    "name", ["notes.md", ".venv/lib/x.py", "__pycache__/app.py", "node_modules/x.py", ".kstream/x.py"]
)
def test_what_is_no_source_is_passed_over(tmp_path: Path, name: str) -> None:
    files = SourceFiles(tmp_path)
    write(tmp_path / name, "x")
    assert files.changed() == []


@pytest.mark.parametrize(
    "target,why",
    [("nothing", "is not of the form MODULE:ATTRIBUTE"), ("nothing:app", "no module named 'nothing'")],
)
def test_a_target_that_no_change_would_mend_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dev", target, "--port", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and why in err
