"""Types of stores that change between two starts of a service, on a real Kafka and without its local state."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.kafka import read, write
from support.running import Command, until

SERVICE = """
import kstream
import msgspec

class Cart(msgspec.Struct):
    {fields}

app = kstream.App({name!r})
items = app.topic("{name}.items", key=str, value=str, partitions=2)
totals = app.topic("{name}.totals", key=str, value=str, partitions=2)
carts = app.table("carts", key=str, value=Cart)

@app.agent(items, to=totals)
def fill(item: str, ctx: kstream.Context[str]) -> str:
    cart = carts.get(ctx.key) or Cart({first})
    {change}
    carts[ctx.key] = cart
    return str(cart)
"""
INT = {"fields": "count: int", "first": "0", "change": "cart.count += 1"}
NOTED = {"fields": "count: int\n    note: str = 'none'", "first": "0", "change": "cart.count += 1"}
TEXT = {"fields": "count: str", "first": "''", "change": "cart.count += 'x'"}


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    name = f"types-{uuid.uuid4().hex[:8]}"
    started: list[Command] = []

    def start(form: dict[str, str], text: str = SERVICE, **settings: str) -> Command:
        shutil.rmtree(tmp_path / "state", ignore_errors=True)  # as on a fresh machine
        folder = tmp_path / f"run{len(started)}"
        folder.mkdir()
        # each in a folder of its own: Python takes a file of the same size and second for the one that it compiled
        (folder / "service.py").write_text(text.format(name=name, **form))
        environment = {
            "KSTREAM_BOOTSTRAP_SERVERS": bootstrap_servers, "KSTREAM_STATE_DIR": str(tmp_path / "state"),
            "KSTREAM_COMMIT_INTERVAL": "50ms", "KSTREAM_WEB": "false", "KSTREAM_ANNOUNCE_INTERVAL": "0",
            "KSTREAM_ON_STOP": "leave", "NAME": name, **settings,
        }  # fmt: skip
        started.append(Command(folder, "run", "service:app", "--workers", "1", cwd=folder, **environment))
        return started[-1]

    start.name = name  # type: ignore[attr-defined]
    yield start
    for one in started:
        one.end()


def stopped(command: Command) -> int:
    command.process.terminate()
    return command.wait()


def test_what_reads_the_old_entries_goes_on_and_what_does_not_is_refused_at_the_start(
    service: Callable[..., Command], bootstrap_servers: str
) -> None:
    name = service.name  # type: ignore[attr-defined]

    def say(*expected: str) -> None:
        write(bootstrap_servers, f"{name}.items", [("ann", b"tea", 0)])
        until(lambda: [row.value for row in totals()] == [one.encode() for one in expected], f"{expected}")

    def totals() -> list[object]:
        return list(read(bootstrap_servers, [f"{name}.totals"])[f"{name}.totals"])

    first = service(INT)
    until(lambda: "restored" in first.err.read_text(), "the start")
    say("Cart(count=1)")
    assert stopped(first) == 0

    changed = service(TEXT)
    assert changed.wait(60) == 2
    said = changed.err.read_text()
    assert "store 'carts' holds values of the type Cart(count: int), and it is Cart(count: str) now" in said
    assert "field count was int, and is str now" in said
    assert "restored" not in said, "no task ran"

    grown = service(NOTED)
    say("Cart(count=1)", "Cart(count=2, note='none')")
    assert stopped(grown) == 0


WINDOWS = """
from datetime import timedelta
import kstream

app = kstream.App({name!r})
items = app.topic("{name}.items", key=str, value=str, partitions=2)
totals = app.topic("{name}.totals", key=kstream.Windowed[str], value=int, partitions=2)
windows = app.stream(items).group_by_key().window(kstream.Tumbling(minutes={minutes}), grace=timedelta({grace}))
windows.count(name="n").to(totals)
"""


def test_windows_of_another_size_are_refused_at_the_start(
    service: Callable[..., Command], bootstrap_servers: str
) -> None:
    name = service.name  # type: ignore[attr-defined]

    def totals() -> list[bytes]:
        return [row.value for row in read(bootstrap_servers, [f"{name}.totals"])[f"{name}.totals"]]

    first = service({"minutes": "60", "grace": "0"}, text=WINDOWS)
    until(lambda: "restored" in first.err.read_text(), "the start")
    write(bootstrap_servers, f"{name}.items", [("ann", b"tea", 0)])
    until(lambda: totals() == [b"1"], "a result")
    assert stopped(first) == 0

    changed = service({"minutes": "10", "grace": "0"}, text=WINDOWS)
    assert changed.wait(60) == 2
    said = changed.err.read_text()
    assert "store 'n' was written for windows of 1:00:00, and is declared for windows of 0:10:00 now" in said
    assert "restored" not in said, "no task ran"

    later = service({"minutes": "60", "grace": "1"}, text=WINDOWS)
    until(lambda: "restored" in later.err.read_text(), "the start with another grace")
    write(bootstrap_servers, f"{name}.items", [("ann", b"tea", 0)])
    until(lambda: len(totals()) == 2, "a result")
    assert stopped(later) == 0
