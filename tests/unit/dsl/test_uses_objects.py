"""Tables that methods use, and what merely lies beside them in an object."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.dsl.uses import tables_used
from kstream.testing import TestDriver

app = kstream.App("objects")
source = app.topic("in", key=str, value=str)
counts = app.stream(source).group_by_key().count(name="counts")


class Walker:
    def walk(self, value: str) -> int:
        return self.walk(value[1:]) if value else 0

    def ping(self, value: str) -> int:
        return self.pong(value)

    def pong(self, value: str) -> int:
        return self.ping(value) + counts.get(value, 0)

    def last(self) -> int:
        return counts.get("a", 0)

    def many(self, value: str) -> int:
        self.walk(value)
        self.plain()
        self.walk(value)
        return self.last()

    def plain(self) -> None: ...


class Flat(kstream.Processor[str, str, str]):
    def process(self, value: str, ctx: Any) -> None:
        self.flat(value, ctx)

    def flat(self, value: str, ctx: Any) -> None:
        if len(value) > 1:
            self.flat(value[1:], ctx)
        ctx.emit(value)


def test_methods_call_themselves_and_each_other() -> None:
    walker = Walker()
    assert tables_used(walker.walk) == []
    assert tables_used(walker.ping) == tables_used(walker.many) == [counts]
    again = kstream.App("again")
    stream = again.stream(again.topic("in", key=str, value=str))
    stream.map(walker.walk, value=int)
    stream.process(Flat, name="flat")
    again.topology()


def test_functions_call_each_other_as_deep_as_they_like() -> None:
    code = "def f0(v): return counts.get(v, 0)\n"
    code += "".join(f"def f{n}(v): return f{n - 1}(v)\n" for n in range(1, 2000))
    variables: dict[str, Any] = {"counts": counts, "__name__": __name__}
    exec(code, variables)
    assert tables_used(variables["f1999"]) == [counts]


class Service:
    """An app as a class: its topics and tables lie in it."""

    def __init__(self, app: kstream.App, orders: int, prices: int, group: str | None = None) -> None:
        self.orders = app.topic("orders", key=str, value=int, partitions=orders)
        self.prices = app.topic("prices", key=str, value=int, partitions=prices)
        self.out = app.topic("out", key=str, value=int)
        app.stream(self.orders, group=group).map(self.double, value=int).to(self.out)
        self.price = app.stream(self.prices).group_by_key().reduce(lambda _, after: after, name="price")

    def double(self, value: int) -> int:
        return 2 * value


@pytest.mark.parametrize("group", [None, "cpu"])
def test_a_table_beside_a_method_that_does_not_use_it_joins_no_parts(group: str | None) -> None:
    app = kstream.App("service")
    service = Service(app, 4, 2, group)
    assert [[one.name for one in part.stores] for part in app.topology().parts] == [[], ["price"]]
    with TestDriver(app) as driver:
        driver.send(service.orders, 1, key="a")
        assert driver.values(service.out) == [2]


class Beside:
    """The table is found neither by its name nor before the method is declared."""

    def __init__(self, app: kstream.App) -> None:
        self.source = app.topic("in", key=str, value=str, partitions=1)
        self.out = app.topic("out", key=str, value=int)
        stream = app.stream(self.source)
        stream.map(self.count, value=int).to(self.out)
        self.counts = stream.group_by_key().count(name="counts")

    def count(self, value: str, ctx: kstream.Context[str]) -> int:
        table: Any = getattr(self, "coun" + "ts")
        return int(table.get(ctx.key, 0))


def test_a_table_beside_a_method_is_there_for_it_in_its_part() -> None:
    app = kstream.App("beside")
    beside = Beside(app)
    with TestDriver(app, partitions=1) as driver:
        for _ in range(3):
            driver.send(beside.source, "x", key="k")
        assert driver.values(beside.out) == [0, 1, 2]


balances: Any = None


def made() -> tuple[kstream.App, Any, Any]:
    global balances
    app = kstream.App("made")
    source, out = app.topic("in", key=str, value=str, partitions=1), app.topic("out", key=str, value=int)
    stream = app.stream(source)
    balances = stream.group_by_key().count(name="balances")
    stream.map(lambda _, ctx: balances.get(ctx.key, 0), value=int).to(out)
    return app, source, out


def test_a_factory_that_binds_a_global_makes_several_apps() -> None:
    for app, source, out in (made(), made()):
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, "x", key="k")
            driver.send(source, "x", key="k")
            assert driver.values(out) == [1, 2]


class Lazy:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("connected to the database")

    def find(self, value: str) -> int:
        return 1


class Odd:
    @property
    def __module__(self) -> Any:  # type: ignore[override]
        return "odd"

    def find(self, value: str) -> int:
        return 1


lazy, odd = Lazy(), Odd()


def test_objects_are_not_asked_what_they_are() -> None:
    assert tables_used(lambda value: lazy.find(value) + odd.find(value) + counts[value]) == [counts]
