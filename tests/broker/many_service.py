"""A count over many partitions, for test_memory.py: workers load it as `broker.many_service:app`."""

from __future__ import annotations

import os

import msgspec

import kstream


class Reading(msgspec.Struct):
    number: int
    place: str


def make_app(name: str, partitions: int) -> kstream.App:
    app = kstream.App(name)
    source = app.topic(f"{name}.in", key=str, value=Reading, partitions=partitions)
    app.stream(source).group_by_key().count(name="n", emit="commit")
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "many"), int(os.environ.get("KSTREAM_TEST_PARTITIONS", "4")))
