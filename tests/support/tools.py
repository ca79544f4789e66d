"""Programs that some tests need and that are no Python packages: scripts/tools.sh installs them."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """The path of a program.

    Where it is missing the test is skipped, and the reason says how to get it. CI (environment variable CI) has to have
    it: there the test fails.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is missing: run `make tools`"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
