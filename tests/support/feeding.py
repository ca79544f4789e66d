"""Records of a property, with what happens between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kstream.errors import AbortRequired
from kstream.testing import TestDriver

CUTS: Final = ("process", "commit", "crash", "abort")
"""What may happen between two records: each cuts the input into batches there."""


def cut(driver: TestDriver, name: str) -> None:
    """One of `CUTS`; or nothing, where the name is empty. "abort": what waits is processed and its transaction is
    aborted, so that the task takes back what it did. A crash begins with what was restored instead."""
    if name == "abort":
        driver.process()
        driver.cluster.fail_next("producer.commit", AbortRequired("planned"))
        driver.commit()
    elif name:
        getattr(driver, name)()


def feed_between(driver: TestDriver, records: Sequence[tuple[str, Any, int]], between: Sequence[str]) -> None:
    """Appends the records (key, value, timestamp) to the topic "in"; behind each comes the next step, one of
    `CUTS` or nothing. All is processed and committed at the end."""
    for number, (key, value, at) in enumerate(records):
        driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
        cut(driver, between[number % len(between)])
    driver.process()
    driver.commit()
