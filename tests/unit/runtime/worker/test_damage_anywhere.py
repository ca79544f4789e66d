"""Whichever read of a task's state finds it damaged: it is rebuilt, and what comes out is what would have come without.
Each kind of state is in the app, and damage is found at every so many reads: within records, commits, and idle time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import StateError
from kstream.state.memory import MemoryBackend
from unit.runtime.harness import Fleet

KEYS = ["a", "b", "c"]
SECOND = timedelta(seconds=1)


class Timed(kstream.Processor[str, int, str]):
    seen = kstream.ListState(int, ttl=kstream.TTL(minutes=5))

    def process(self, value: int, ctx: Any) -> None:
        self.seen.append(value)
        ctx.timer(after=timedelta(milliseconds=700), clock="wall", name=f"{value:02}-wall")
        ctx.timer(after=timedelta(milliseconds=700), clock="event", name=f"{value:02}-event")

    def on_timer(self, timer: Any, ctx: Any) -> None:
        if timer.clock == "event":
            ctx.emit(f"{timer.name} {len(self.seen)}")


class Service:
    """Times are those of the clock, and close what is to be closed when nothing comes."""

    def __init__(self, directory: Path) -> None:
        app = kstream.App("svc", on_error=[kstream.DeadLetter("letters")])
        ones, twos = (app.topic(name, key=str, value=int, idle_advance=True) for name in ("ones", "twos"))
        outs = [app.topic(f"out-{n}", key=bytes, value=bytes) for n in range(7)]
        self.inputs, self.outs = [ones, twos], [out.name for out in outs]
        grouped = app.stream(ones).group_by_key()
        windows = grouped.window(kstream.Tumbling(SECOND), grace=timedelta(0))
        self._out(windows.count(name="w", emit="close").stream(), outs[0])
        sessions = grouped.window(kstream.Session(gap=SECOND), grace=timedelta(0))
        self._out(sessions.count(name="s", emit="close").stream(), outs[1])
        self._out(grouped.count(name="t", ttl=kstream.TTL(seconds=2, time="event")).stream(), outs[2])
        self._out(app.stream(ones).process(Timed, name="p"), outs[3])
        self._out(app.stream(ones).deduplicate(lambda n: str(n % 3), within=SECOND, name="d"), outs[4])
        joined = app.stream(ones).join(
            app.stream(twos), lambda one, two: [one, two], within=SECOND, grace=timedelta(0), how="outer", name="j"
        )
        self._out(joined, outs[5])
        versions = app.stream(twos).to_table("v", history=3 * SECOND)
        self._out(app.stream(ones).join(versions, lambda one, row: [one, row], how="left"), outs[6])
        self.fleet = Fleet(app, directory, partitions=1, idle_timeout=1.0)

    @staticmethod
    def _out(stream: Any, out: Any) -> None:
        stream.map(lambda value: repr(value).encode(), value=bytes).rekey(lambda value: value, key=bytes).to(out)

    def run(self) -> dict[str, Counter[bytes | None]]:
        """Records, a quiet time, a restart, more records, a quiet time. Each record has its time, however long it took
        to get there."""
        fleet, began = self.fleet, self.fleet.clock.time()
        for minute, values in (1, range(12)), (2, range(12, 24)):
            fleet.start("one")
            fleet.settle()
            for place, n in enumerate(values):
                for late, topic in enumerate(self.inputs):
                    due = began + minute * 60 + place * 0.4 + late * 0.2
                    assert fleet.clock.time() < due
                    fleet.clock.advance(due - fleet.clock.time())
                    fleet.send(topic, [KEYS[n % 3]], n)
                    fleet.step(seconds=0.05)
            fleet.step(times=60, seconds=0.3)
            fleet.settle()
            fleet.leave("one")
        fleet.close()
        letters = fleet.cluster.records("letters") if "letters" in fleet.cluster.topics() else ()
        assert not letters
        return {out: Counter(record.value for record in fleet.cluster.records(out)) for out in self.outs}


class Reads:
    """Of all backends, in their order. That of the number `fails` finds damage.

    Attributes:
        where: what has read, where that was.
    """

    def __init__(self) -> None:
        self.count, self.fails, self.where = 0, -1, ""

    def counting(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(backend: MemoryBackend, store: str, *args: Any) -> Any:
            self.count += 1
            if self.count == self.fails:
                self.where = f"{inner.__name__} of {store}"
                raise StateError("a block is damaged")
            return inner(backend, store, *args)

        return call


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    made = Reads()
    for call in ("multi_get", "scan"):
        monkeypatch.setattr(MemoryBackend, call, made.counting(getattr(MemoryBackend, call)))
    return made


def whichever(reads: Reads, directory: Path, one_of: int) -> None:
    expected = Service(directory / "sound").run()
    assert all(expected.values())
    for fails in range(1, reads.count + 1, one_of):
        reads.count, reads.fails = 0, fails
        found = Service(directory / f"{fails}").run()
        assert found == expected, f"read {fails}, {reads.where}"


def test_whichever_read_finds_damage(reads: Reads, tmp_path: Path) -> None:
    whichever(reads, tmp_path, 97)


@pytest.mark.more
def test_each_read_finds_damage(reads: Reads, tmp_path: Path) -> None:
    whichever(reads, tmp_path, 13)
