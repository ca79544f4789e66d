"""A service in which windows, sessions, commits and timers of both clocks put out results that fail: workers load it as
`faults.results_service:app`. Values are event times in ms; those below 0 move time and set no timer. The injection is
told of the step `result` at each result that fails, of `flaky` where one fails that passes the second time, and of
`again` when it does.

    KSTREAM_TEST_POLICY   one of `POLICIES`
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import msgspec

import kstream
from faults import injection

WINDOW_MS, GAP_MS, AFTER_MS, PARTITIONS = 1000, 500, 700, 2
OVERSIZE = 20_000
WINDOW = timedelta(milliseconds=WINDOW_MS)
POLICIES: dict[str, list[Any]] = {
    "dead letter": [kstream.DeadLetter()],
    "skip": [kstream.Skip()],
    "retry": [kstream.Retry(1, base=0.02, jitter=0.0), kstream.DeadLetter()],
}
POLICY = os.environ.get("KSTREAM_TEST_POLICY", "dead letter")

_failed: set[int] = set()
"""What has failed once, in this process, and passes from now on."""


class Seen(msgspec.Struct):
    count: int = 0
    last: int = 0


def kind(seen: Seen) -> int:
    """0: the functions behind the window raise; 1: what one of them makes of it has no key, which is known to be what
    Kafka refuses; 7: it is too large, and which of several is has to be looked for. Others are good."""
    second = seen.last // WINDOW_MS
    return 7 if second % 20 == 7 else second % 5


def add(seen: Seen, at: int) -> Seen:
    return Seen(seen.count + 1, max(seen.last, abs(at)))


def both(one: Seen, other: Seen) -> Seen:
    return Seen(one.count + other.count, max(one.last, other.last))


def in_session(at: int) -> bool:
    """Each third second has none, and ends a session."""
    return abs(at) // WINDOW_MS % 3 != 2


def passes(kind: int, number: int) -> None:
    """Raises for kind 0; where that is tried again, for a number of kind 2 the first time, too."""
    if kind == 0:
        injection.here("result", "before")
        raise ValueError(number)
    if kind == 2 and POLICY == "retry":
        if number in _failed:
            injection.here("again", "before")
        else:
            _failed.add(number)
            injection.here("flaky", "before")
            raise ConnectionError(number)


def shown(seen: Seen) -> str:
    passes(kind(seen), seen.last)
    return f"{seen.count} {seen.last}"


def told(number: int) -> str:
    passes(abs(number) % 5, number)
    return str(number)


class Rings(kstream.Processor[str, int, int]):
    """Each record sets an alarm of its key by either clock. The alarms number themselves, those of the wall clock below
    0."""

    rang = kstream.MapState(str, int)

    def process(self, at: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        if at >= 0:
            ctx.timer(at=at + AFTER_MS, name=str(at))
            ctx.timer(after=timedelta(milliseconds=AFTER_MS), name=f"wall-{at}", clock="wall")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, int]) -> None:
        number = self.rang[timer.clock] = self.rang.get(timer.clock, 0) + 1
        ctx.emit(number if timer.clock == "event" else -number)


def book(app: kstream.App, name: str, results: Any) -> None:
    """Numbers the good results of each key; what was done with one that fails has to be taken back, or was sent to
    Kafka, which refuses it."""
    numbers = app.table(f"{name}-numbers", key=str, value=int, default=0, scope="partition")
    config = {"cleanup.policy": "compact", "max.message.bytes": str(OVERSIZE)}
    to = app.topic(f"{app.name}.{name}", key=str, value=str, partitions=PARTITIONS, config=config)

    @app.agent(results, to=to, name=f"book-{name}", tables=[numbers])
    def booked(seen: Seen, ctx: kstream.Context[Any]) -> kstream.Record[str, str]:
        numbers[ctx.key.key] += 1
        text = f"{numbers[ctx.key.key]} {ctx.key.start} {shown(seen)}"
        if kind(seen) == 7:
            text = os.urandom(OVERSIZE).hex()
        return kstream.Record(None if kind(seen) == 1 else ctx.key.key, text)  # type: ignore[arg-type]


def make_app(name: str) -> kstream.App:
    app = kstream.App(name, on_error=POLICIES[POLICY])
    events = app.topic(f"{name}.events", key=str, value=int, partitions=PARTITIONS, timestamp=abs)
    group = app.stream(events).group_by_key()

    # its results are left out where they fail
    plain = group.window(kstream.Tumbling(WINDOW), grace=timedelta(0)).aggregate(Seen, add, name="plain", emit="close")
    of_plain = app.topic(f"{name}.plain", key=kstream.Windowed[str], value=str, partitions=PARTITIONS)
    plain.stream().map(shown, value=str).to(of_plain)

    careful = group.window(kstream.Hopping(2 * WINDOW, every=WINDOW), grace=timedelta(0))
    book(app, "careful", careful.aggregate(Seen, add, name="careful", emit="close").stream())

    near = app.stream(events).filter(in_session).group_by_key()
    sessions = near.window(kstream.Session(timedelta(milliseconds=GAP_MS)), grace=timedelta(0))
    book(app, "sessions", sessions.aggregate(Seen, add, merge=both, name="sessions", emit="close").stream())

    tells = app.table("tells", key=str, value=int, default=0, scope="partition")
    of_commits = app.topic(f"{name}.commits", key=str, value=str, partitions=PARTITIONS)

    @app.agent(group.count(name="commits", emit="commit").stream(), to=of_commits)
    def number(count: int, ctx: kstream.Context[str]) -> str:
        tells[ctx.key] += 1
        return f"{tells[ctx.key]} {told(count)}"

    of_rings = app.topic(f"{name}.rings", key=str, value=str, partitions=PARTITIONS)
    app.stream(events).process(Rings, name="rings").map(told, value=str).to(of_rings)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "results"))
injection.install()
