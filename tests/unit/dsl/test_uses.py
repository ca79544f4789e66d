"""Tables that a function uses are found in its code; those that cannot be are declared."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest

import kstream
from kstream.dsl.table import Table
from kstream.dsl.uses import tables_used
from kstream.errors import TableUndeclared, TopologyError
from kstream.testing import TestDriver

app = kstream.App("uses")
one: Table[str, int] = app.table("one", key=str, value=int)
two: Table[str, int] = app.table("two", key=str, value=int)
three: Table[str, int] = app.table("three", key=str, value=int)

tables = ModuleType(f"{__name__.partition('.')[0]}.tables")
vars(tables)["four"] = app.table("four", key=str, value=int)
vars(tables)["five"] = app.table("five", key=str, value=int)
exec("def read_five():\n    return five['a']", vars(tables))
shop = ModuleType(__name__.partition(".")[0])
vars(shop)["tables"] = tables


def names(*functions: Callable[..., Any]) -> list[str]:
    return [table.name for table in tables_used(*functions)]


def helper(key: str) -> int:
    return one[key]


def helper_of_helper(key: str) -> int:
    return helper(key) + two[key]


def recursive(n: int) -> int:
    return recursive(n - 1) if n else helper("x")


def with_global(n: int) -> int:
    return one["a"]


def with_nested(n: int) -> int:
    def inner() -> int:
        return two["a"]

    return inner()


def with_comprehension(n: int) -> list[int]:
    return [one[key] for key in "ab"]


def with_lambda(n: int) -> Callable[[], int]:
    return lambda: three["a"]


def with_default(n: int, table: Table[str, int] = one) -> int:
    return table["a"]


def with_keyword_default(n: int, *, table: Table[str, int] = two) -> int:
    return table["a"]


async def with_async(stream: Any) -> AsyncIterator[int]:
    async for key in stream:
        one[key] += 1
        yield two[key]


class Holder:
    """Has attributes and methods that are called as tables are."""

    one = two = 0

    def three(self) -> int:
        return self.one


def with_attributes_only(n: int) -> int:
    holder = Holder()
    holder.one += n
    del holder.two
    return holder.three()


def with_attribute_of_nested(n: int) -> int:
    return sum(holder.one for holder in [Holder()])


def with_keyword_only_called_so(n: int) -> dict[str, int]:
    return dict(one=n, two=n)


def with_local(n: int) -> int:
    one = {"a": n}
    return one["a"]


def with_import_called_so(n: int) -> Any:
    import json as two

    return two.dumps(n)


def with_module(n: int) -> int:
    return tables.four["a"] + one["a"]


def with_package(n: int) -> int:
    return shop.tables.four["a"]


def with_function_of_module(n: int) -> int:
    return tables.read_five()


def with_class_body(n: int) -> int:
    class Inner:
        held = one

    return Inner.held["a"]


def unused(n: int) -> str:
    return json.dumps(n)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (with_global, ["one"]),
        (helper, ["one"]),
        (helper_of_helper, ["one", "two"]),
        (recursive, ["one"]),
        (with_nested, ["two"]),
        (with_comprehension, ["one"]),
        (with_lambda, ["three"]),
        (with_default, ["one"]),
        (with_keyword_default, ["two"]),
        (with_async, ["one", "two"]),
        (unused, []),
        (with_attributes_only, []),
        (with_attribute_of_nested, []),
        (with_keyword_only_called_so, []),
        (with_local, []),
        (with_import_called_so, []),
        (with_module, ["four", "one"]),
        (with_package, ["four"]),
        (with_function_of_module, ["five"]),
        (with_class_body, ["one"]),
        (len, []),
        (int, []),
        (functools.partial(with_global), ["one"]),
        (functools.partial(lambda table, n: n, three), ["three"]),
        (functools.partial(lambda n, table=None: n, table=two), ["two"]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_found_in(function: Callable[..., Any], expected: list[str]) -> None:
    assert names(function) == expected


def test_found_in_closures_however_deep() -> None:
    local: Table[str, int] = kstream.App("local").table("local", key=str, value=int)

    def outer() -> Callable[[int], int]:
        def middle(n: int) -> int:
            def inner() -> int:
                return local["a"]

            return inner()

        return middle

    assert names(outer()) == ["local"]
    assert names(outer) == ["local"]


def test_found_behind_decorators_methods_and_callable_objects() -> None:
    def noisy(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    class Counter:
        def __init__(self, table: Table[str, int]) -> None:
            self.table = table

        def count(self, n: int) -> int:
            return self.table["a"] + two["a"]

        def __call__(self, n: int) -> int:
            return one["a"]

    counter = Counter(three)
    assert names(noisy(with_global)) == ["one"]
    assert sorted(names(counter.count)) == ["three", "two"]
    assert sorted(names(counter)) == ["one", "three"]

    def by_closure(n: int) -> int:
        return counter.count(n)

    assert sorted(names(by_closure)) == ["three", "two"]


class Shop:
    """Has tables, and methods that use each other's."""

    kept = one

    def __init__(self, own: Any = None) -> None:
        self.own = own

    def call(self, n: int) -> int:
        return self.deeper(n)

    def deeper(self, n: int) -> int:
        return two["a"]

    def nested(self, n: int) -> int:
        return sum(self.own["a"] for _ in range(n))

    @property
    def shown(self) -> int:
        return three["a"]

    @staticmethod
    def static(n: int) -> int:
        return one["a"]

    @classmethod
    def of_class(cls, n: int) -> int:
        return cls.kept["a"]

    def by_property(self, n: int) -> int:
        return self.shown


shop_object = Shop(three)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Shop().call, ["two"]),
        (Shop(three).call, ["three", "two"]),
        (Shop(three).nested, ["three"]),
        (Shop().by_property, ["three"]),
        (Shop.static, ["one"]),
        (Shop.of_class, ["one"]),
        (lambda n: Shop.kept["a"], ["one"]),
        (lambda n: shop_object.own["a"], ["three"]),
        (lambda n: -shop_object.call(n), ["two", "three"]),
        (functools.partial(Shop.deeper, Shop()), ["two"]),
    ],
)
def test_found_by_way_of_classes_and_objects(function: Callable[..., Any], expected: list[str]) -> None:
    assert sorted(names(function)) == sorted(expected)


BELOW = """
import functools
import kstream
app = kstream.App("below")
source = app.topic("in", key=str, value=str, partitions=1)
out = app.topic("out", key=str, value=int)
stream = app.stream(source)
{function}
{uses}
counts = stream.group_by_key().count(name="counts")
"""
PLAIN = "def so_far(x, ctx):\n    return counts.get(ctx.key, 0)"
METHOD = """class Of:
    def so_far(self, x, ctx):
        return self.deeper(ctx)
    def deeper(self, ctx):
        return counts.get(ctx.key, 0)
"""


@pytest.mark.parametrize(
    ("function", "uses"),
    [
        (PLAIN, "stream.map(so_far, value=int).to(out)"),
        (f"{PLAIN}\nof = functools.partial(so_far)", "stream.map(lambda x, ctx: of(x, ctx), value=int).to(out)"),
        (METHOD, "stream.map(Of().so_far, value=int).to(out)"),
        (
            "class So(kstream.Processor[str, str, int]):\n    def process(self, x, ctx):\n"
            "        ctx.emit(counts.get(ctx.key, 0))",
            "stream.process(So, name='so').to(out)",
        ),
        (PLAIN, "app.agent(source, to=out, name='a')(so_far)"),
    ],
)
def test_a_function_above_the_table_that_it_reads_sees_it_at_its_own_record(function: str, uses: str) -> None:
    """However the input is cut: before, it saw what the whole batch had done."""
    for at_once in (False, True):
        variables: dict[str, Any] = {"__name__": __name__}
        exec(BELOW.format(function=function, uses=uses), variables)
        with TestDriver(variables["app"], partitions=1) as driver:
            for _ in range(5):
                driver.send(variables["source"], "x", key="k")
                if not at_once:
                    driver.process()
            if at_once:
                driver.crash()  # all come again, as one batch
            assert driver.values(variables["out"]) == [0, 1, 2, 3, 4]


def test_a_table_that_cannot_be_found_is_refused_where_it_is_used() -> None:
    own = kstream.App("hidden")
    source, out = own.topic("in", key=str, value=str, partitions=1), own.topic("out", key=str, value=int)
    stream = own.stream(source)
    counts = stream.group_by_key().count(name="counts")
    hidden = {"counts": counts}
    stream.map(lambda x: hidden["counts"].get(x, 0), value=int).to(out)
    with TestDriver(own, partitions=1) as driver, pytest.raises(TableUndeclared, match="cannot be seen in"):
        driver.send(source, "x", key="k")
        driver.process()


def test_a_fold_that_reads_its_own_table_is_called_for_one_record_at_a_time() -> None:
    variables: dict[str, Any] = {"__name__": __name__}
    exec(
        BELOW.format(function="def fold(n, x):\n    return n + len(list(counts.items()))", uses="").replace(
            'count(name="counts")', 'aggregate(int, fold, name="counts", value=int)'
        ),
        variables,
    )
    (part,) = variables["app"].topology().parts
    assert part.one_at_a_time


def test_a_variable_that_is_not_bound_yet_is_no_error() -> None:
    def early() -> Callable[[int], int]:
        def function(n: int) -> int:
            return later["a"]

        found.append(names(function))
        later = one
        return function

    found: list[list[str]] = []
    function = early()
    assert found == [[]]
    assert names(function) == ["one"]


def test_one_table_found_twice_is_one() -> None:
    assert names(with_global, helper, with_default) == ["one"]


def test_every_step_of_a_stream_looks_for_them() -> None:
    own = kstream.App("steps")
    table = own.table("t", key=str, value=int, default=0)
    source = own.topic("in", key=str, value=int)
    for declare in (
        lambda stream: stream.map(lambda n: table["a"]),
        lambda stream: stream.filter(lambda n: "a" in table),
        lambda stream: stream.group_by_key().aggregate(int, lambda total, n: total + table["a"]),
        lambda stream: stream.group_by_key().sum(lambda n: table["a"]),
        lambda stream: stream.group_by_key().reduce(lambda a, b: table["a"]),
    ):
        stream = declare(own.stream(source))
        node = stream.node
        assert "t" in [store.name for store in node.stores]


def test_a_table_whose_name_is_a_field_does_not_join_two_parts() -> None:
    """Sub-topologies that share a table are one; a field that is called like a table shares nothing."""
    own = kstream.App("fields")
    total = own.table("total", key=str, value=int, default=0)
    variables: dict[str, Any] = {"total": total}
    exec(
        "def fold(acc, value):\n    acc.total += value\n    return acc\n"
        "def book(value, ctx):\n    total[ctx.key] += value\n",
        variables,
    )
    first, second = (own.topic(name, key=str, value=int) for name in ("first", "second"))
    own.stream(first, group="cpu").group_by_key().aggregate(dict, variables["fold"], name="folded")
    own.agent(second, group="io")(variables["book"])
    assert {part.name: [store.name for store in part.stores] for part in own.topology().parts} == {
        "first@cpu": ["folded"], "second@io": ["total"],
    }  # fmt: skip


def test_nor_does_it_hold_a_parallelism() -> None:
    own = kstream.App("fields")
    source = own.topic("in", key=str, value=int)
    variables: dict[str, Any] = {"total": own.table("total", key=str, value=int, default=0)}
    exec(
        "def fold(acc, value):\n    acc.total += value\n    return acc\n"
        "def book(value, ctx):\n    total[ctx.key] += value\n",
        variables,
    )
    group = own.stream(source).group_by(str, key=str, name="by", parallelism=7)
    group.aggregate(dict, variables["fold"], name="folded")
    own.agent(source)(variables["book"])
    parts = own.topology().parts
    assert len(parts) == 2 and [sink.partitions for part in parts for sink in part.sinks if sink.internal] == [7]


HIDDEN = {"one": one, "two": two}


def test_uses_says_what_no_code_shows() -> None:
    said = kstream.uses(*HIDDEN.values())

    @said
    def function(n: int) -> int:
        return HIDDEN["one"]["a"]

    def caller(n: int) -> int:
        return function(n) + three["a"]

    class Base(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None: ...

    @kstream.uses(one)
    class First(Base): ...

    @kstream.uses(three)
    class Second(First): ...

    class Called:
        @said
        def method(self, n: int) -> int:
            return HIDDEN["two"]["a"]

        def __call__(self, n: int) -> int:
            return n

    called = Called()
    assert names(function) == names(functools.partial(function)) == ["one", "two"]
    assert sorted(names(caller)) == ["one", "three", "two"]
    assert names(Second) == ["three", "one"] and names(First) == ["one"] and names(Base) == []
    assert names(called.method) == ["one", "two"] and names(called) == []
    marked: Any = said(called)
    assert names(marked) == ["one", "two"] and marked(3) == 3
    assert names(said(len)) == names(said(called.__call__)) == ["one", "two"]
    assert names(kstream.uses(three)(function)) == ["one", "two", "three"]


def test_a_factory_of_apps_may_say_it_of_one_function_again_and_again() -> None:
    """It is the table of its last app that is meant: with those of all apps before, the second app was refused."""
    tables: dict[str, Any] = {}

    def look(n: int) -> int:
        return tables["t"].get("a", n)  # type: ignore[no-any-return]

    for _ in range(2):
        own = kstream.App("again")
        tables["t"] = table = own.table("t", key=str, value=int)
        own.stream(own.topic("in", key=str, value=int)).map(kstream.uses(table)(look))
        assert [part.stores for part in own.topology().parts] == [[table.spec]]


def test_the_time_of_a_record_is_said_by_no_table() -> None:
    """A step that has the table made it work, and the time was another one when the record was read again."""
    own = kstream.App("timed")
    table = own.global_table(own.topic("rates", key=str, value=int))
    with pytest.raises(
        TopologyError, match=r"topic 'in': timestamp= uses table 'rates': the time of a record must lie"
    ):
        own.topic("in", key=str, value=int, timestamp=lambda n: table.get("a", n))


def test_uses_goes_over_classes_in_c() -> None:
    assert names(kstream.uses(one)(list)) == ["one"]


def test_what_uses_is_given_is_looked_at() -> None:
    with pytest.raises(TopologyError, match=r"@kstream\.uses takes a table, not 'one': give it what app\.table"):
        kstream.uses("one")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"@kstream\.uses: 3 is not a function"):
        kstream.uses(one)(3)  # type: ignore[type-var]
    own = kstream.App("looked")
    with pytest.raises(TopologyError, match=r"agent 'late' is declared already: put it below @app\.agent"):

        @kstream.uses(one)
        @own.agent(own.topic("other", key=str, value=int))
        def late(n: int) -> None: ...

    stream = own.stream(own.topic("in", key=str, value=int))
    with pytest.raises(TopologyError, match=r"map\(<lambda>\): tables=Table\('t'.*: give a list of tables"):
        stream.map(lambda n: n, tables=own.table("t", key=str, value=int))  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"filter\(<lambda>\): tables takes a table, not 't'"):
        stream.filter(lambda n: n, tables=["t"])  # type: ignore[list-item]


STEPS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "map": lambda stream, f, t: stream.map(f, value=int, tables=t),
    "filter": lambda stream, f, t: stream.filter(f, tables=t),
    "flat_map": lambda stream, f, t: stream.flat_map(lambda n: [f(n)], value=int, tables=t),
    "peek": lambda stream, f, t: stream.peek(f, tables=t),
    "rekey": lambda stream, f, t: stream.rekey(f, key=int, tables=t),
    "group_by": lambda stream, f, t: stream.group_by(f, key=int, tables=t),
}


@pytest.mark.parametrize("step", STEPS)
def test_steps_take_tables_as_agents_do(step: str) -> None:
    own = kstream.App("steps")
    source, put = (own.topic(name, key=str, value=int) for name in ("in", "put"))
    rates = own.table("rates", key=str, value=int)
    held = {"it": rates}

    @own.agent(put)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        rates[ctx.key] = n

    seen: list[int | None] = []

    def asked(n: int) -> int:
        seen.append(held["it"].get("a"))
        return n

    STEPS[step](own.stream(source), asked, held.values())
    (part,) = own.topology().parts if step != "group_by" else own.topology().parts[:1]
    assert [store.name for store in part.stores] == ["rates"] and part.one_at_a_time
    with TestDriver(own, partitions=1) as d:
        d.send(put, 7, key="a")
        d.send(source, 1, key="a")
    assert seen == [7]
