"""scripts/tools.sh: quick where all is there, one line and status 2 where it cannot help; `tool` for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.tools import tool

SCRIPT = Path(__file__).parents[2] / "scripts/tools.sh"
PROGRAMS = ("chromium", "prometheus", "promtool", "prometheus-alertmanager", "amtool")


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    shell = shutil.which("sh")
    assert shell is not None
    return subprocess.run(
        [shell, SCRIPT, *arguments], env={"PATH": str(path)}, capture_output=True, text=True, timeout=110, check=False
    )


def programs(directory: Path, **scripts: str) -> None:
    """Makes programs of that name, which do what the shell script says."""
    for name, text in scripts.items():
        file = directory / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)


def everything(directory: Path) -> None:
    programs(directory, **dict.fromkeys(PROGRAMS, "exit 0"))


def test_with_all_there_nothing_is_installed(tmp_path: Path) -> None:
    everything(tmp_path)
    done = run(tmp_path)  # nothing else is on the path: not even apt-get could be called
    assert (done.returncode, done.stdout, done.stderr) == (0, "tools: all there\n", "")


@pytest.mark.parametrize(
    ("missing", "package"),
    [("amtool", "prometheus-alertmanager"), ("promtool", "prometheus"), ("chromium", "chromium")],
)
def test_without_apt_get_one_line_says_what_is_missing(tmp_path: Path, missing: str, package: str) -> None:
    everything(tmp_path)
    (tmp_path / missing).unlink()
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"tools: missing: {package}; install them by other means: there is no apt-get here\n"


def test_without_root_one_line_says_what_to_run(tmp_path: Path) -> None:
    programs(tmp_path, apt_get="exit 1", id="echo 1000", sudo="exit 1")
    done = run(tmp_path)
    assert done.returncode == 2
    packages = "chromium prometheus prometheus-alertmanager"
    assert done.stderr == f"tools: missing: {packages}; run as root: apt-get install {packages}\n"


def test_sudo_installs_what_is_missing_without_starting_it(tmp_path: Path) -> None:
    everything(tmp_path)
    (tmp_path / "prometheus").unlink()
    said = tmp_path / "said"
    # sudo only notes what it is asked for: nothing of the machine is changed
    programs(tmp_path, apt_get="exit 1", id="echo 1000", sudo=f'echo "$*" >> {said}')
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    asked = said.read_text()
    assert "apt-get install --yes --quiet --no-install-recommends prometheus\n" in asked
    policy = "/usr/sbin/policy-rc.d"
    if not os.path.exists(policy):
        assert asked.index(f"tee {policy}") < asked.index("apt-get install") < asked.index(f"rm -f {policy}")


def test_a_check_installs_nothing(tmp_path: Path) -> None:
    everything(tmp_path)
    programs(tmp_path, apt_get="exit 1", id="echo 0")
    (tmp_path / "chromium").unlink()
    wanted = ("check", "prometheus", "prometheus-alertmanager")
    done = run(tmp_path, *wanted)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "amtool").unlink()
    done = run(tmp_path, *wanted)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tools: missing: prometheus-alertmanager; run `make tools` first\n"


def test_a_day_asks_for_its_programs_before_it_begins() -> None:
    """Its test would be skipped, and the command would end well."""
    lines = SCRIPT.parents[1].joinpath("Makefile").read_text().partition("\nday: ")[2].split("\n\n")[0].splitlines()
    assert "tools.sh check prometheus prometheus-alertmanager" in lines[1] and "test_day.py" in lines[2]


def test_a_test_without_its_tool_is_skipped_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make tools"):
        tool("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make tools"):
        tool("no-such-program")
