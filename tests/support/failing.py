"""Apps in which records fail at one step, declared in one of several ways, over numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import kstream
from kstream.testing import TestDriver


def app_of(declare: Callable[[kstream.App, Any, Any, Any], Any], call: Any, *policies: Any) -> kstream.App:
    app = kstream.App("failing", on_error=list(policies))
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    declare(app, source, out, call)
    return app


def feed(driver: TestDriver, numbers: Iterable[int]) -> None:
    for n in numbers:
        driver.cluster.append("in", b"k%d" % (n % 3), b"%d" % n)


def put_out(driver: TestDriver, topic: str = "out") -> list[int]:
    return [int(record.value or b"") for record in driver.cluster.records(topic)]
