"""Records of a property, with what happens between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstream.testing import TestDriver


def feed_between(driver: TestDriver, records: Sequence[tuple[str, Any, int]], between: Sequence[str]) -> None:
    """Appends the records (key, value, timestamp) to the topic "in"; behind each comes the next step: "process",
    "commit", "crash" or nothing. All is processed and committed at the end."""
    for number, (key, value, at) in enumerate(records):
        driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
        step = between[number % len(between)]
        if step in ("process", "commit"):
            driver.process()
        if step == "commit":
            driver.commit()
        if step == "crash":
            driver.crash()
    driver.process()
    driver.commit()
