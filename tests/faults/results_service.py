"""A service whose windows and timers put out results that fail: workers load it as `faults.results_service:app`. Values
are event times in ms; those below 0 move time and set no timer. At each result that fails the injection is told of the
step `result`.
"""

from __future__ import annotations

import os
from datetime import timedelta

import msgspec

import kstream
from faults import injection

WINDOW_MS, AFTER_MS, PARTITIONS = 1000, 700, 2
OVERSIZE = 20_000
WINDOW = timedelta(milliseconds=WINDOW_MS)


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


def fails(why: object) -> None:
    injection.here("result", "before")
    raise ValueError(why)


def shown(seen: Seen) -> str:
    if kind(seen) == 0:
        fails(seen.last)
    return f"{seen.count} {seen.last}"


def rung(number: int) -> str:
    if number % 5 == 0:
        fails(number)
    return str(number)


class Rings(kstream.Processor[str, int, int]):
    """Each record sets an alarm of its key. The alarms number themselves."""

    rang = kstream.ValueState(int, default=0)

    def process(self, at: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        if at >= 0:
            ctx.timer(at=at + AFTER_MS, name=str(at))

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, int]) -> None:
        self.rang.value += 1
        ctx.emit(self.rang.value)


def make_app(name: str) -> kstream.App:
    app = kstream.App(name, on_error=[kstream.DeadLetter()])
    events = app.topic(f"{name}.events", key=str, value=int, partitions=PARTITIONS, timestamp=abs)
    group = app.stream(events).group_by_key()

    # its results are left out where they fail
    plain = group.window(kstream.Tumbling(WINDOW), grace=timedelta(0)).aggregate(Seen, add, name="plain", emit="close")
    of_plain = app.topic(f"{name}.plain", key=kstream.Windowed[str], value=str, partitions=PARTITIONS)
    plain.stream().map(shown, value=str).to(of_plain)

    # what was done with its results is taken back first, or was sent to Kafka, which refuses it
    careful = group.window(kstream.Hopping(2 * WINDOW, every=WINDOW), grace=timedelta(0)).aggregate(
        Seen, add, name="careful", emit="close"
    )
    numbers = app.table("numbers", key=str, value=int, default=0, scope="partition")
    of_careful = app.topic(
        f"{name}.careful",
        key=str,
        value=str,
        partitions=PARTITIONS,
        config={"cleanup.policy": "compact", "max.message.bytes": str(OVERSIZE)},
    )

    @app.agent(careful.stream(), to=of_careful)
    def book(seen: Seen, ctx: kstream.Context[kstream.Windowed[str]]) -> kstream.Record[str, str]:
        """Numbers the good ones of each key."""
        numbers[ctx.key.key] += 1
        text = f"{numbers[ctx.key.key]} {ctx.key.start} {shown(seen)}"
        if kind(seen) == 7:
            text = os.urandom(OVERSIZE).hex()
        return kstream.Record(None if kind(seen) == 1 else ctx.key.key, text)  # type: ignore[arg-type]

    of_rings = app.topic(f"{name}.rings", key=str, value=str, partitions=PARTITIONS)
    app.stream(events).process(Rings, name="rings").map(rung, value=str).to(of_rings)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "results"))
injection.install()
