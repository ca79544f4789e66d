"""Which files of a project count as changed, and what `kstream dev` refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kstream.cli import dev, main
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


class Stops(Exception):
    pass


class Printing:
    """An app that Python imports anew at each start; `edits` happen while it runs."""

    def __init__(self, root: Path, *edits: str) -> None:
        self.root, self.edits = root, [*edits]
        self.said: list[str] = []

    def start(self) -> None:
        code = "import app; print(app.a)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.root, capture_output=True, text=True, check=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        )  # fmt: skip
        self.said.append(done.stdout.strip())
        if not self.edits:
            raise Stops
        write(self.root / "app.py", self.edits.pop(0))
        os.utime(self.root / "app.py", ns=(5 * 10**9, 5 * 10**9 + len(self.said)))

    def stop(self) -> None:
        return

    def ended(self) -> None:
        return


def test_two_changes_of_one_second_and_size_are_both_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would run what it compiled of the first of them."""
    write(tmp_path / "app.py", "a = 1")
    os.utime(tmp_path / "app.py", ns=(5 * 10**9, 5 * 10**9))
    monkeypatch.setattr(dev, "LOOK_SECONDS", 0.0)
    app = Printing(tmp_path, "a = 2", "a = 3")
    with pytest.raises(Stops):
        dev.watch(app, SourceFiles(tmp_path), lambda _: None)  # type: ignore[arg-type]
    assert app.said == ["1", "2", "3"]


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
