"""The services of `benchmarks.scaling`: each record goes out in the partition it came in, with who did it."""

from __future__ import annotations

import os
from typing import Any

import msgspec

import kstream

PARTITIONS = 8
PADDING = "x" * 80
"""So that a key of the stateful service takes about 100 bytes of state."""

INSTANCE = os.environ.get("KSTREAM_INSTANCE", "")


class Tick(msgspec.Struct):
    """`number` counts within the partition; 0 is what only fills the state."""

    number: int


class Done(msgspec.Struct):
    number: int = 0
    by: str = ""
    padding: str = PADDING


def add(done: Done, tick: Tick) -> Done:
    done.number, done.by = tick.number, INSTANCE
    return done


def stateless(name: str) -> kstream.App:
    app, ticks, out = _app(name)
    app.stream(ticks).map(lambda tick: Done(tick.number, INSTANCE, ""), value=Done).to(out)
    return app


def stateful(name: str) -> kstream.App:
    app, ticks, out = _app(name)
    app.stream(ticks).group_by_key().aggregate(Done, add, name="state").to(out)
    return app


def _app(name: str) -> tuple[kstream.App, Any, Any]:
    app = kstream.App(name)
    ticks = app.topic(f"{name}-in", key=str, value=Tick, partitions=PARTITIONS)
    out = app.topic(f"{name}-out", key=str, value=Done, partitions=PARTITIONS)
    return app, ticks, out


KINDS = {"stateless": stateless, "stateful": stateful}

if "KSTREAM_BENCH_SCALING" in os.environ:
    kind, _, run = os.environ["KSTREAM_BENCH_SCALING"].partition("/")
    app = KINDS[kind](run)
