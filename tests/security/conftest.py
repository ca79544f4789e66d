"""Tests of logins, rights and secrets, on a real broker that asks for them (support/secured.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.secured import Secured, secured_broker


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker
