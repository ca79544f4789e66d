"""A state whose change raises, where the processor catches that: nothing half changed is kept."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver


def listed(found: list[int], value: int) -> list[int]:
    found.append(value)
    if value < 0:
        raise ValueError(value)
    return found


def summed(found: int, value: int) -> int:
    if value < 0:
        raise ValueError(value)
    return found + value


class Catches(kstream.Processor[str, int, str]):
    items = kstream.ListState(int)
    kept = kstream.AggregatingState(list, listed, kind=list[int])
    joined = kstream.ReducingState(list[int], lambda found, more: listed(found, more[0]))
    total = kstream.ReducingState(int, summed)
    state: str

    def process(self, value: int, ctx: Any) -> None:
        try:
            if self.state == "items":
                self.items.extend(n if n >= 0 else int("no") for n in (value + 100, value))
            else:
                getattr(self, self.state).add([value] if self.state == "joined" else value)
        except ValueError:
            ctx.emit("caught")
        if self.state == "items":
            ctx.emit(f"{self.items.value}")
        else:
            ctx.emit(f"{getattr(self, self.state).value}")


def given(state: str, *, apart: bool, crash: bool) -> list[str]:
    made: Any = type("Made", (Catches,), {"state": state})
    app = kstream.App("catches", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(made, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        for value in (1, 2, -3, 4):
            driver.cluster.append("in", b"k", str(value).encode(), 1000)
            if apart:
                driver.process()
            if crash:
                driver.commit()
                driver.crash()
        driver.process()
        driver.commit()
        driver.crash()
        return driver.values(out)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("state", ["items", "kept", "joined", "total"])
def test_nothing_half_changed_is_kept(state: str, apart: bool, crash: bool) -> None:
    found = given(state, apart=apart, crash=crash)
    if state == "items":
        assert found[2:] == ["caught", "[101, 1, 102, 2]", "[101, 1, 102, 2, 104, 4]"]
    elif state == "total":
        assert found == ["1", "3", "caught", "3", "7"]  # there is nothing in it that could be half changed
    else:
        assert found == ["[1]", "[1, 2]", "[1, 2, 4]"]  # the record failed


def test_a_list_is_extended_by_itself() -> None:
    class Doubles(kstream.Processor[str, int, str]):
        items = kstream.ListState(int)

        def process(self, value: int, ctx: Any) -> None:
            self.items.append(value)
            self.items.extend(self.items)
            ctx.emit(f"{self.items.value}")

    app = kstream.App("doubles")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(Doubles, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k")
        driver.send(source, 2, key="k")
        assert driver.values(out) == ["[1, 1]", "[1, 1, 2, 1, 1, 2]"]
