"""Tests that kill things: `scenario` makes the service they kill (tests/support/scenario.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.scenario import Scenarios, scenarios

SECONDS = 300


@pytest.fixture
def scenario(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenarios]:
    yield from scenarios(bootstrap_servers, tmp_path, monkeypatch)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These start processes, kill them and wait for others: where everything takes ten times as long, the usual limit
    ends tests that go well."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))
