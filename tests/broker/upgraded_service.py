"""A service that stores something in most forms, for test_upgrades.py: `broker.upgraded_service:app`.

With KSTREAM_TEST_LESS its offset metadata has a number one lower than it has: to it, what others committed is of a
later version.
"""

from __future__ import annotations

import os
from datetime import timedelta

import kstream

NAME = os.environ.get("KSTREAM_TEST_APP", "upgraded")

if os.environ.get("KSTREAM_TEST_LESS"):
    from kstream.specs.stored import OFFSETS

    object.__setattr__(OFFSETS, "number", OFFSETS.number - 1)

app = kstream.App(NAME)
lines = app.topic(f"{NAME}.lines", key=str, value=str, partitions=2)
counts = app.topic(f"{NAME}.counts", key=str, value=int, partitions=2)
windows = app.topic(f"{NAME}.windows", key=kstream.Windowed[str], value=int, partitions=2)


def word(line: str) -> str:
    if line == "bad":
        raise ValueError(line)
    return line


words = app.stream(lines, on_error=[kstream.RetryLater([0.5]), kstream.DeadLetter()]).group_by(
    word, name="by-word", key=str, parallelism=2
)
words.count(name=os.environ.get("KSTREAM_TEST_STORE", "seen")).to(counts)
words.window(kstream.Tumbling(timedelta(seconds=10)), grace=timedelta(0)).count(name="in-window", emit="close").to(
    windows
)
