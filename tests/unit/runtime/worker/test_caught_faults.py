"""A function that catches everything around a table catches that its files are damaged, too. What it makes of that is
never committed, and no policy is asked about the record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import KStreamError, StateDirectoryError, StateError
from kstream.state.memory import MemoryBackend
from unit.runtime.harness import Fleet

Read = Callable[[Any, Any], Any]


def swallowed(table: Any, key: Any) -> Any:
    try:
        return table.get(key, 0)
    except Exception:
        return -1


def wrapped(table: Any, key: Any) -> Any:
    try:
        return table.get(key, 0)
    except Exception as error:
        raise ValueError("the table cannot be asked") from error


def scanned(table: Any, key: Any) -> Any:
    try:
        return dict(table.items()).get(key, 0)
    except Exception:
        return -1


READS: list[Read] = [swallowed, wrapped, scanned]


def by_map(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @kstream.uses(rates)
    def priced(n: int, ctx: kstream.Context[str]) -> int:
        return n + read(rates, ctx.key)  # type: ignore[no-any-return]

    app.stream(source).map(priced).to(out)


def by_function(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @app.agent(source, to=out, tables=[rates, kept])
    def agent(n: int, ctx: kstream.Context[str]) -> int:
        kept[f"{n:02}"] = found = read(kept, f"{n - 3:02}") + n
        return found + read(rates, ctx.key)  # type: ignore[no-any-return]


def by_generator(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @app.agent(source, to=out, tables=[rates, kept])
    def agent(n: int, ctx: kstream.Context[str]) -> Iterator[int]:
        kept[f"{n:02}"] = found = read(kept, f"{n - 3:02}") + read(rates, ctx.key) + n
        yield found


def by_async(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @app.agent(source, to=out, tables=[rates, kept])
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in stream:
            kept[f"{n:02}"] = found = read(kept, f"{n - 3:02}") + read(rates, ctx.key) + n
            yield found


def by_processor(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @kstream.uses(rates)
    class Made(kstream.Processor[str, int, int]):
        last = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            try:
                last = self.last.value
            except Exception:
                last = -1
            self.last.value = last + value + read(rates, ctx.key)
            ctx.emit(self.last.value)

    app.stream(source).process(Made, name="kept").to(out)


def by_timer(app: kstream.App, source: Any, out: Any, rates: Any, kept: Any, read: Read) -> None:
    @kstream.uses(rates)
    class Made(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.timer(after=timedelta(milliseconds=1), clock="wall", name=f"{value:02}")

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit(int(timer.name) + read(rates, ctx.key))

    app.stream(source).process(Made, name="kept").to(out)


FORMS = [by_map, by_function, by_generator, by_async, by_processor, by_timer]


class Service:
    def __init__(self, form: Callable[..., None], read: Read, directory: Path) -> None:
        app = kstream.App("svc", on_error=[kstream.DeadLetter("letters")])
        self.source, self.out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
        self.rows = app.topic("rates", key=str, value=int)
        rates = app.global_table(self.rows)
        kept = app.table("kept", key=str, value=int, scope="partition")
        form(app, self.source, self.out, rates, kept, read)
        self.fleet = Fleet(app, directory, partitions=1)
        self.fleet.send(self.rows, ["a", "b", "c"], 100)

    def run(self, fail: Callable[[], None] = lambda: None) -> list[int]:
        """Records before a restart, after which nothing is in the cache, and records behind it."""
        fleet = self.fleet
        fleet.start("one")
        for n in range(1, 10):
            fleet.send(self.source, ["a" if n % 2 else "b"], n)
        fleet.settle()
        fleet.leave("one")
        fleet.start("one")
        fleet.step(times=20)
        fail()
        for n in range(10, 20):
            fleet.send(self.source, ["a" if n % 3 else "c"], n)
            fleet.step(times=2)
        fleet.settle()
        fleet.step(times=200, seconds=0.5)  # a task that failed is tried again after a pause
        fleet.settle()
        values = [int(record.value or b"") for record in fleet.cluster.records("out")]
        letters = fleet.cluster.records("letters") if "letters" in fleet.cluster.topics() else ()
        assert not letters
        fleet.close()
        return sorted(values)  # a timer that is tried again lets those of other keys go first


@pytest.mark.parametrize("fault", [StateError("corruption"), StateDirectoryError("too many open files")], ids=repr)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("form", "store"), [
    *((form, "rates") for form in FORMS), *((form, "kept") for form in FORMS if form not in (by_map, by_timer)),
])  # fmt: skip
def test_what_is_made_of_a_fault_is_not_committed(
    form: Callable[..., None], read: Read, store: str, fault: KStreamError, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected = Service(form, read, tmp_path / "sound").run()
    one = Service(form, read, tmp_path / "faulty")
    fails, failed = [0], 0

    def failing(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(backend: MemoryBackend, name: str, *args: Any) -> Any:
            nonlocal failed
            if fails[0] and name.startswith(store) and one.source.name not in name:
                fails[0] -= 1
                failed += 1
                raise fault
            return inner(backend, name, *args)

        return call

    for call in ("multi_get", "scan"):
        monkeypatch.setattr(MemoryBackend, call, failing(getattr(MemoryBackend, call)))
    assert one.run(lambda: fails.__setitem__(0, 2)) == expected
    assert failed
