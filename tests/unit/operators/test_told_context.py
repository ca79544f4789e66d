"""What the context says of results that are told because time went on: nothing of the record that moved it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver

SECOND = timedelta(seconds=1)


def said(value: Any, ctx: kstream.Context[Any]) -> str:
    return f"{ctx.topic}|{ctx.offset}|{ctx.headers}"


def alone(app: kstream.App, left: Any, right: Any) -> Any:
    return left.join(
        right, lambda one, other, ctx: said(one, ctx), within=SECOND, grace=0 * SECOND, how="left", name="j", value=str
    )


def window(app: kstream.App, left: Any, right: Any) -> Any:
    windows = left.merge(right).group_by_key().window(kstream.Tumbling(SECOND), grace=0 * SECOND)
    return windows.count(name="n", emit="close").stream().map(said, value=str)


def session(app: kstream.App, left: Any, right: Any) -> Any:
    sessions = left.merge(right).group_by_key().window(kstream.Session(SECOND), grace=0 * SECOND)
    return sessions.count(name="n", emit="close").stream().map(said, value=str)


class Timed(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: Any) -> None:
        ctx.timer(after=SECOND)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        ctx.emit("fired")


def timer(app: kstream.App, left: Any, right: Any) -> Any:
    return left.merge(right).process(Timed, name="timed", value=str).map(said, value=str)


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
@pytest.mark.parametrize("result", [alone, window, session, timer])
def test_no_headers_of_a_stranger(result: Any, at_once: bool) -> None:
    app = kstream.App("told")
    left, right = (app.topic(side, key=str, value=str, partitions=1) for side in ("left", "right"))
    out = app.topic("out", key=bytes, value=str)
    result(app, app.stream(left), app.stream(right)).rekey(lambda value: b"k", key=bytes).to(out)
    with TestDriver(app, partitions=1) as driver:
        for side, key, at in (
            ("left", "ann", 10_000), ("right", "x", 10_000), ("left", "bob", 60_000), ("right", "bob", 60_000),
        ):  # fmt: skip
            driver.cluster.append(side, key.encode(), b"v", at, [("tenant", key.encode())], 0)
            if not at_once:
                driver.process()
        assert driver.values(out)[0] == "|-1|None"
