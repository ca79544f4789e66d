"""Tests that need a real Kafka; `bootstrap_servers` (tests/conftest.py) provides it."""

from __future__ import annotations

from pathlib import Path

import pytest

SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These start processes and brokers, one after the other: where everything takes ten times as long, the usual limit
    ends tests that go well."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))
