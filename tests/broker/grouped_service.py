"""A service in two isolation groups, for test_groups.py: workers load it as `broker.grouped_service:app`."""

from __future__ import annotations

import os

import kstream


def parity(value: int) -> str:
    return "odd" if value % 2 else "even"


def doubled(value: int) -> int:
    return 2 * value


def make_app(name: str, partitions: int) -> kstream.App:
    app = kstream.App(name)
    numbers = app.topic(f"{name}.numbers", key=str, value=int, partitions=partitions)
    doubles = app.topic(f"{name}.doubles", key=str, value=int, partitions=partitions)
    sums = app.topic(f"{name}.sums", key=str, value=int, partitions=partitions)
    app.agent(numbers, to=doubles)(doubled)
    heavy = os.environ.get("KSTREAM_TEST_GROUP", "cpu-intensive")
    app.stream(numbers, group=heavy).group_by(parity, name="parity").sum(lambda n: n, name="total").to(sums)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "grouped"), int(os.environ.get("KSTREAM_TEST_PARTITIONS", "4")))
