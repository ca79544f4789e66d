"""`range` and `prefix` of tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, TableError
from kstream.state.memory import MemoryBackend
from kstream.testing import TestDriver
from support.cases import examples

NAMES = st.text("aäb😀\uffff", max_size=3)
BOUNDS = st.one_of(st.none(), NAMES)
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES),
    st.tuples(st.just("set"), NAMES),
    st.tuples(st.just("del"), NAMES),
    st.tuples(st.just("range"), BOUNDS, BOUNDS),
    st.tuples(st.just("range"), BOUNDS, BOUNDS),
    st.tuples(st.just("prefix"), NAMES),
    st.tuples(st.just("abort"), NAMES),
    st.tuples(st.sampled_from(["commit", "crash", "wait"])),
)


@examples(60)
@given(
    steps=st.lists(STEPS, max_size=40),
    backend=st.sampled_from(["memory", "rocksdb"]),
    expires=st.booleans(),
    binary=st.booleans(),
)
def test_a_range_is_that_of_a_sorted_dict(steps: list[Any], backend: str, expires: bool, binary: bool) -> None:
    app = kstream.App("ranges")
    source = app.topic("in", key=str, value=list[Any], partitions=1)
    out = app.topic("out", key=str, value=list[list[Any]])
    ttl = kstream.TTL(hours=2) if expires else None
    of: Any = bytes if binary else str
    table: Any = app.table("names", key=of, value=int, scope="partition", ttl=ttl)

    def key(name: Any) -> Any:
        return name.encode() if binary and name is not None else name

    @app.agent(source, to=out)
    def follow(step: list[Any], ctx: kstream.Context[str]) -> list[list[Any]] | None:
        match step:
            case ["set", name, number]:
                table[key(name)] = number
            case ["del", name, _]:
                del table[key(name)]
            case ["range", start, stop, _]:
                return [[str(one, "utf-8") if binary else one, n] for one, n in table.range(key(start), key(stop))]
            case ["prefix", prefix, _]:
                return [[str(one, "utf-8") if binary else one, n] for one, n in table.prefix(key(prefix))]
        return None

    held: dict[str, tuple[int, int]] = {}
    expected, hour = [], 0
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for number, step in enumerate(steps):
            there = {name: n for name, (n, at) in sorted(held.items()) if not expires or hour - at < 2}
            match step:
                case ("commit",):
                    driver.commit()
                case ("crash",):
                    driver.commit()
                    driver.crash()
                case ("abort", name):
                    driver.send(source, ["set", name, number], key="one")  # so that there is something to commit
                    held[name] = number, hour
                    fault = driver.cluster.faults.plan("producer.commit", AbortRequired("no"))
                    driver.commit()
                    driver.advance(seconds=30)  # it is tried again after a pause
                    assert fault.struck
                case ("wait",):
                    driver.commit()
                    driver.advance(hours=1)
                    hour += 1
                case ("set", name):
                    held[name] = number, hour
                case ("del", name):
                    held.pop(name, None)
                case ("range", start, stop):
                    expected.append(
                        [[k, n] for k, n in there.items() if (start or "") <= k and (stop is None or k < stop)]
                    )
                case ("prefix", prefix):
                    expected.append([[k, n] for k, n in there.items() if k.startswith(prefix)])
            if step[0] in ("set", "del", "range", "prefix"):
                driver.send(source, [*step, number], key="one")
        assert driver.values(out) == expected


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_what_was_written_before_a_crash_or_a_failure_is_not_found(backend: str) -> None:
    app = kstream.App("ranges")
    source, out = app.topic("in", key=str, value=str, partitions=1), app.topic("out", key=str, value=str)
    table = app.table("names", key=str, value=int, scope="partition")

    @app.agent(source, to=out, on_error=[kstream.Skip()])
    def follow(name: str, ctx: kstream.Context[str]) -> str | None:
        if name == "look":
            return ",".join(f"{key}{n}" for key, n in table.range("a", "c"))
        table[name[0]] = len(name)
        if name.endswith("!"):
            list(table.range())
            raise ValueError(name)
        return None

    with TestDriver(app, partitions=1, backend=backend) as driver:
        for name in ("a", "b", "look", "b!", "az!", "look"):
            driver.send(source, name, key="k")
        driver.commit()
        driver.cluster.faults.plan("producer.commit", AbortRequired("no"))
        for name in ("bbb", "look"):
            driver.send(source, name, key="k")
        driver.crash()
        driver.send(source, "look", key="k")
        assert driver.values(out)[:2] == ["a1,b1", "a1,b1"]
        assert driver.values(out)[-1] == "a1,b3"


@pytest.mark.parametrize("key", [int, float, tuple[int, str], bool], ids=str)
def test_keys_that_do_not_lie_in_their_order_are_refused(key: Any) -> None:
    app = kstream.App("ranges")
    table: Any = app.table("t", key=key, value=int, scope="partition")
    with pytest.raises(TableError, match=r"table 't' has keys of type .* range\(\) is for keys of type str or bytes"):
        table.range()
    with pytest.raises(TableError, match=r"prefix\(\) is for keys of type str or bytes .*items\(\) for all entries"):
        table.prefix(key())


def test_bounds_of_another_type_are_refused() -> None:
    app = kstream.App("ranges")
    table: Any = app.table("t", key=str, value=int)
    for refused in (lambda: table.range(1), lambda: table.range("a", b"b"), lambda: table.prefix(None)):
        with pytest.raises(TableError, match="cannot be a key of table 't'"):
            refused()
    with pytest.raises(TableError, match="cannot be a key of table 't'"):
        table.prefix("\ud800")


def test_results_of_an_aggregation_are_what_a_range_shows() -> None:
    app = kstream.App("ranges")
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=str)
    means = app.stream(source).group_by_key().mean(float, name="means")

    @app.agent(source, to=out)
    def look(n: int, ctx: kstream.Context[str]) -> str:
        return f"{list(means.range('b'))} {list(means.prefix('a'))}"

    with TestDriver(app, partitions=1) as driver:
        for key, n in (("a", 1), ("b", 3), ("b", 6)):
            driver.send(source, n, key=key)
        driver.send(source, 9, key="c")
        assert driver.values(out)[-1].startswith("[('b', 4.5)") and driver.values(out)[-1].endswith("[('a', 1.0)]")


def test_a_range_reads_nothing_that_lies_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2000 entries in the backend it gives those of the range, and no other is decoded."""
    given: list[bytes] = []
    scan = MemoryBackend.scan

    def counted(self: MemoryBackend, store: str, *bounds: Any) -> Iterator[tuple[bytes, bytes]]:
        for entry in scan(self, store, *bounds):
            if store == "t":
                given.append(entry[0])
            yield entry

    app = kstream.App("ranges")
    source = app.topic("in", key=str, value=str, partitions=1)
    table = app.table("t", key=str, value=int, scope="partition")

    @app.agent(source)
    def fill(what: str, ctx: kstream.Context[str]) -> None:
        if what == "fill":
            for n in range(2000):
                table[f"{n:04}"] = n
        elif what == "range":
            assert [n for _, n in table.range("0500", "0510")] == list(range(500, 510))
        else:
            assert [n for _, n in table.prefix("19")] == list(range(1900, 2000))

    with TestDriver(app, partitions=1, backend="memory") as driver:
        driver.send(source, "fill", key="k")
        driver.commit()
        monkeypatch.setattr(MemoryBackend, "scan", counted)
        for what, found in (("range", 10), ("prefix", 100)):
            given.clear()
            driver.send(source, what, key="k")
            assert len(given) == found
