"""Fixtures of the chart's tests: both helms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.helm.chart import Helm


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, tool: Callable[[str], Path], tmp_path: Path) -> Helm:
    """Each test runs with both."""
    return Helm(tool(request.param), tmp_path)


@pytest.fixture
def one_helm(tool: Callable[[str], Path], tmp_path: Path) -> Helm:
    """For what does not hang on Helm's version."""
    return Helm(tool("helm4"), tmp_path)
