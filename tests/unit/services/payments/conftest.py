"""The API, for each test a new one, and the service that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstream.testing import TestDriver
from services.payments.api import PaymentApi
from services.payments.app import app


@pytest.fixture
def api() -> Iterator[PaymentApi]:
    with PaymentApi() as api:
        yield api


@pytest.fixture
def driver(api: PaymentApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDriver]:
    monkeypatch.setenv("PAYMENTS_API", api.url)
    with TestDriver(app) as driver:
        yield driver
