"""The service of `benchmarks.recovery`: a table by key, and each record handed on when it is counted."""

from __future__ import annotations

import os

import kstream

PARTITIONS = 2
PADDING = b"x" * 190


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    ticks = app.topic(f"{name}-in", key=str, value=float, partitions=PARTITIONS)
    out = app.topic(f"{name}-out", key=str, value=float, partitions=PARTITIONS)
    state = app.table("state", key=str, value=bytes)

    @app.agent(ticks, to=out)
    def tick(sent: float, ctx: kstream.Context[str]) -> float:
        state[ctx.key] = PADDING
        return sent

    return app


if "KSTREAM_BENCH_RECOVERY" in os.environ:
    app = make_app(os.environ["KSTREAM_BENCH_RECOVERY"])
