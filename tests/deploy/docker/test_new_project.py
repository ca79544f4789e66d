"""The project that `kstream init` makes, unmodified, by its own compose file on a real Docker daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.docker.daemon import Daemon
from deploy.docker.stack import Stack
from kstream.cli import init

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("new") / "shop"
    init.make(made, "shop", "shop")
    return made


@pytest.fixture(scope="module")
def stack(daemon: Daemon, folder: Path, project: Path) -> Iterator[Stack]:
    """Built as its README says, started, healthy."""
    (command,) = set(re.findall(r"docker build --target kstream --tag (\S+) \.", (project / "README.md").read_text()))
    daemon.docker("build", "--target", "kstream", "--tag", command, folder, DOCKER_BUILDKIT="1")
    made = Stack(daemon, project)
    made.compose("build", timeout=600)
    try:
        made.up(services=["kafka", "app"])
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", 20)


def test_it_counts_what_it_is_sent_and_one_command_shows_its_page(stack: Stack) -> None:
    say = ["exec", "-T", "app", "kstream"]
    stack.compose(*say, "send", "shop.app:app", "shop.clicks", '{"page": "home", "seconds": 1.5}', "--key", "ann")

    def counted() -> bool:
        return "home" in stack.compose(
            *say, "tail", "shop.app:app", "shop.clicks-per-page", "--from", "beginning", "--once"
        )

    stack.wait_for(counted, "the count of what was sent")
    address = stack.compose(*say, "page").strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:8010/#token=\S+", address)
    url, _, token = address.partition("/#token=")
    header = {"Authorization": f"Bearer {token}"}
    asked = f"import urllib.request as r; print(r.urlopen(r.Request('{url}/api/status', headers={header})).read())"
    assert '"app":"shop"' in stack.compose("exec", "-T", "app", "python", "-c", asked)


def test_it_stays_within_the_memory_that_is_told(stack: Stack, project: Path) -> None:
    told = re.search(r"Docker needs (\d+) GiB", (project / "compose.yaml").read_text())
    assert told is not None
    services = yaml.safe_load((project / "compose.yaml").read_text())["services"].values()
    limits = [one["deploy"]["resources"]["limits"]["memory"] for one in services]
    bytes_ = [int(limit[:-1]) * {"g": 2**30, "m": 2**20}[limit[-1]] for limit in limits]
    assert sum(bytes_) <= int(told[1]) * 2**30
    for service in ("kafka", "app"):
        assert not any(one["State"]["OOMKilled"] for one in stack.containers(service))
