"""What the tests of deployment share: installations that are seen, and tools that are missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import tools
from deploy.recipes import CannotInstall


@pytest.fixture(scope="session", autouse=True)
def installations_are_shown(request: pytest.FixtureRequest) -> None:
    """An installation takes minutes: its line goes past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def show(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, file=sys.stderr, flush=True)

    tools.say = show


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """`tool("helm3")`: a program's path.

    With CI or KSTREAM_DEPLOY in the environment it is installed when it is missing, and the test fails where that
    cannot be. Otherwise nothing is installed, and the test is skipped.
    """
    installs = bool(os.environ.get("CI") or os.environ.get("KSTREAM_DEPLOY"))

    def find(name: str) -> Path:
        if not installs and not tools.is_there(name):
            pytest.skip(f"{name} is missing: run `python -m tests.deploy.tools {name}`, or set KSTREAM_DEPLOY=1")
        try:
            return tools.tool(name)
        except CannotInstall as e:
            pytest.fail(str(e), pytrace=False)

    return find
