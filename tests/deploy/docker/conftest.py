"""A daemon, images and the project's folder, once for all tests here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.docker import images
from deploy.docker.daemon import Daemon
from deploy.docker.stack import Stack

Tool = Callable[[str], Path]


@pytest.fixture(scope="session")
def daemon(tool: Tool) -> Iterator[Daemon]:
    """A Docker daemon with the base images; the test is skipped where it cannot be, in CI it fails."""
    cannot = None
    if sys.platform != "linux":
        cannot = "a Docker daemon of one's own needs Linux"
    elif os.geteuid() != 0:
        cannot = "a Docker daemon of one's own needs root: run the tests as root"
    if cannot is not None:
        if os.environ.get("CI") or os.environ.get("KSTREAM_DEPLOY"):
            pytest.fail(cannot, pytrace=False)
        pytest.skip(cannot)
    for name in ("dockerd", "iptables", "docker-compose", "rootfs-python", "rootfs-servers"):
        tool(name)
    with Daemon() as running:
        images.provide_base_images(running)
        yield running


@pytest.fixture(scope="session")
def folder(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git has it, with wheels for a build without network."""
    return images.project(tmp_path_factory.mktemp("kstream"))


@pytest.fixture(scope="module")
def stack(daemon: Daemon, folder: Path) -> Iterator[Stack]:
    """The compose file's services: built, started, healthy. Nothing of them is left afterwards."""
    made = Stack(daemon, folder)
    made.compose("build", timeout=600)
    try:
        made.up()
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", 20)
