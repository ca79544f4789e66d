"""The service of test_observed.py. Workers load it as `broker.observed_service:app`; what it does comes by the
environment, which they inherit, or by the records: one with a "raise" fails, one with a "sleep" takes that long."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import kstream

NAME = os.environ.get("KSTREAM_TEST_APP", "observed")
PARTITIONS = int(os.environ.get("KSTREAM_TEST_PARTITIONS", "4"))


def _again(event: dict[str, Any]) -> bool:
    """Whether it is to be slow: one with a "once" is so in the first process that has it."""
    if "once" not in event:
        return True
    with suppress(FileExistsError), open(event["once"], "x"):
        return True
    return False


def make_app(name: str, partitions: int) -> kstream.App:
    app = kstream.App(name)
    events = app.topic(f"{name}.events", key=str, value=dict, partitions=partitions)
    seen = app.topic(f"{name}.seen", key=str, value=int, partitions=partitions)
    groups = app.topic(f"{name}.groups", key=str, value=int, partitions=partitions)
    counts = app.table("counts", key=str, value=int, default=int)

    @app.agent(events, to=seen)
    async def see(events: kstream.AgentStream[str, dict[str, Any]], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for event in events:
            if "raise" in event:
                raise ValueError(f"event {event['number']} is bad")
            if "sleep" in event:
                await asyncio.sleep(event["sleep"])
            if "work" in event and _again(event):
                time.sleep(event["work"])
            ctx.metrics.counter("seen", "Events seen.", labels=("group",)).labels(event["group"]).inc()
            counts[ctx.key] += 1
            yield counts[ctx.key]

    app.stream(events).group_by(lambda event: event["group"], key=str, name="by-group").count(name="per-group").to(
        groups
    )
    return app


app = make_app(NAME, PARTITIONS)
