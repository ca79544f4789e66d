"""The image itself, and an app that starts from it as the documents say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy.docker.daemon import Daemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TAG = "kstream:test"
LOCKED_DOWN = ("--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--user=10001:10001")


@pytest.fixture(scope="module")
def image(daemon: Daemon, folder: Path) -> str:
    arguments = ["--build-arg", "VERSION=9.8.7", "--build-arg", "REVISION=abc123"]
    daemon.docker("build", "--target", "kstream", "--tag", TAG, *arguments, folder, DOCKER_BUILDKIT="1")
    return TAG


def test_it_says_what_it_is(daemon: Daemon, image: str) -> None:
    (found,) = json.loads(daemon.docker("inspect", image))
    labels = {name.rpartition(".")[2]: value for name, value in found["Config"]["Labels"].items()}
    assert (labels["version"], labels["revision"], labels["licenses"]) == ("9.8.7", "abc123", "Apache-2.0")
    assert labels["source"].startswith("https://")
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Config"]["Entrypoint"] == ["kstream"]
    assert "/live" in found["Config"]["Healthcheck"]["Test"][-1]


def test_it_runs_locked_down_and_without_network(daemon: Daemon, image: str) -> None:
    assert daemon.docker("run", *LOCKED_DOWN, image, "--version").startswith("kstream ")


def test_it_has_neither_compilers_nor_the_tools_of_its_building(daemon: Daemon, image: str) -> None:
    programs = "for name in gcc cc g++ clang rustc cargo go make uv curl; do command -v $name; done; true"
    assert daemon.docker("run", *LOCKED_DOWN, "--entrypoint=sh", image, "-c", programs) == ""
    needless = "find /opt /app /build -name '*.whl' -o -path '*/site-packages/tests' 2>/dev/null; true"
    assert daemon.docker("run", *LOCKED_DOWN, "--entrypoint=sh", image, "-c", needless) == ""


def test_only_state_and_tmp_can_be_written_to(daemon: Daemon, image: str) -> None:
    writable = (
        "for place in / /app /opt/kstream /etc /tmp /var/lib/kstream; do [ -w $place ] && echo $place; done; true"
    )
    found = daemon.docker("run", "--rm", "--entrypoint=sh", image, "-c", writable)
    assert found.split() == ["/tmp", "/var/lib/kstream"]  # also without --read-only


def test_its_modules_are_compiled(daemon: Daemon, image: str) -> None:
    """Nothing could be compiled later: the folder belongs to root."""
    found = "find /opt/kstream -path '*/site-packages/kstream/*' -name"
    count = f"{found} '*.py' | wc -l; {found} '*.pyc' | wc -l"
    sources, compiled = daemon.docker("run", *LOCKED_DOWN, "--entrypoint=sh", image, "-c", count).split()
    assert int(compiled) == int(sources) > 100


def test_so_are_pythons_own_that_the_health_check_needs(daemon: Daemon, image: str) -> None:
    cached = "[one.__spec__.cached for one in list(sys.modules.values()) if one.__spec__]"
    program = f"import http.client, os, sys; print([name for name in {cached} if name and not os.path.exists(name)])"
    assert daemon.docker("run", *LOCKED_DOWN, "--entrypoint=python", image, "-c", program) == "[]\n"


def documented(folder: Path, number: int, image: str) -> str:
    """A Dockerfile of docs/deploy-compose.md that starts from the image."""
    document = (folder / "docs/deploy-compose.md").read_text()
    found = re.findall(r"```dockerfile\n(FROM kstream:.*?)```", document, re.DOTALL)[number]
    return re.sub(r"^FROM kstream:\S+", f"FROM {image}", found)


@pytest.fixture
def clicks(folder: Path, tmp_path: Path) -> Path:
    """A folder with the app of README.md."""
    (app,) = re.findall(r"```python\n(# clicks\.py\n.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    tmp_path.joinpath("clicks.py").write_text(app)
    return tmp_path


def test_an_app_starts_from_it_as_the_documents_say(daemon: Daemon, image: str, folder: Path, clicks: Path) -> None:
    clicks.joinpath("Dockerfile").write_text(documented(folder, 0, image))
    daemon.docker("build", "--tag", "clicks:test", clicks, DOCKER_BUILDKIT="1")
    (found,) = json.loads(daemon.docker("inspect", "clicks:test"))
    assert found["Config"]["Cmd"] == ["run", "clicks:app"]
    said = daemon.docker("run", *LOCKED_DOWN, "clicks:test", "topology", "clicks:app")
    assert "clicks-per-page" in said


def test_an_app_with_packages_too(daemon: Daemon, image: str, folder: Path, clicks: Path) -> None:
    # without network: pip itself, whose wheel Debian keeps there for ensurepip
    clicks.joinpath("requirements.txt").write_text("--no-index\n--find-links /usr/share/python-wheels\npip\n")
    clicks.joinpath("Dockerfile").write_text(documented(folder, 1, image))
    daemon.docker("build", "--tag", "clicks:packages", clicks, DOCKER_BUILDKIT="1")
    (found,) = json.loads(daemon.docker("inspect", "clicks:packages"))
    assert found["Config"]["User"] == "10001:10001"
    said = daemon.docker("run", *LOCKED_DOWN, "--entrypoint=python", "clicks:packages", "-m", "pip", "--version")
    assert "/opt/kstream/lib" in said
