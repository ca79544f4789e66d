"""Tests that kill things: `scenario` makes the service they kill (tests/support/scenario.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.scenario import Scenarios, scenarios


@pytest.fixture
def scenario(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenarios]:
    yield from scenarios(bootstrap_servers, tmp_path, monkeypatch)
