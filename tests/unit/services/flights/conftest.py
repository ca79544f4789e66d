"""The data, read once, in both ways that there are."""

from __future__ import annotations

import pytest

from services.flights import audit
from services.flights.app import Flight
from services.flights.replay import read_flights


@pytest.fixture(scope="session")
def year() -> list[Flight]:
    """As the replay reads it."""
    return read_flights()


@pytest.fixture(scope="session")
def rows() -> list[dict[str, str]]:
    """As the audit reads it."""
    return audit.read_csv()
