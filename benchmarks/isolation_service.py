"""The service of `benchmarks.isolation`: a light agent that answers at once, and a heavy one that computes."""

from __future__ import annotations

import os

import kstream

PARTITIONS = 4
ROUNDS = 30_000
"""Of the heavy agent's loop for a record: 1 to 2 ms on the machines seen."""


def light(sent: float) -> float:
    return sent


def heavy(value: int) -> int:
    for _ in range(ROUNDS):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def make_app(name: str, apart: bool) -> kstream.App:
    app = kstream.App(name)
    requests = app.topic(f"{name}-requests", key=str, value=float, partitions=PARTITIONS)
    answers = app.topic(f"{name}-answers", key=str, value=float, partitions=PARTITIONS)
    work = app.topic(f"{name}-work", key=str, value=int, partitions=PARTITIONS)
    done = app.topic(f"{name}-done", key=str, value=int, partitions=PARTITIONS)
    app.agent(requests, to=answers)(light)
    app.agent(work, to=done, group="cpu-intensive" if apart else None)(heavy)
    return app


_name, _, _how = os.environ.get("KSTREAM_BENCH_ISOLATION", "bench-isolation/apart").partition("/")
app = make_app(_name, _how == "apart")
