"""A table of the last value of each key of a stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import KStreamError
from kstream.testing import TestDriver


def app_with_table(value: Any = int | None) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("tables")
    source, out = app.topic("in", key=str, value=value), app.topic("out", key=str, value=value)
    table = app.stream(source).to_table("latest")
    table.to(out)
    return app, source, table, out


@given(records=st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 9))), max_size=30))
def test_what_came_last_counts_and_every_change_is_passed_on(records: list[tuple[str, int | None]]) -> None:
    app, _, table, out = app_with_table()
    with TestDriver(app, partitions=2) as driver:
        for at, (key, value) in enumerate(records):  # times fall: they do not matter
            data = None if value is None else b"%d" % value
            driver.cluster.append("in", key.encode(), data, timestamp=2000 - at)
        driver.process()
        driver.crash()
        assert dict(driver.table(table)) == {key: value for key, value in dict(records).items() if value is not None}
        for key in "abcd":
            assert [one.value for one in driver.records(out) if one.key == key] == [v for k, v in records if k == key]


def test_a_deleted_key_is_a_tombstone_in_the_changelog() -> None:
    app, source, table, _ = app_with_table()
    with TestDriver(app, partitions=1) as driver:
        for value in (1, None):
            driver.send(source, value, key="a")
            driver.commit()
        driver.send(source, 2, key="b")
        driver.send(source, None, key="b")
        assert dict(driver.table(table)) == {}
        changes = [(one.key, one.value) for one in driver.cluster.records("tables-latest-changelog")]
        assert changes == [(b"a", b"1"), (b"a", None), (b"b", None)]


def test_the_bytes_that_came_are_the_bytes_that_are_kept() -> None:
    app, source, _, _ = app_with_table(dict)
    with TestDriver(app, partitions=1) as driver:
        driver.send_raw(source, b'{ "n":   1 }', key=b"a")
        driver.commit()
        assert [one.value for one in driver.cluster.records("tables-latest-changelog")] == [b'{ "n":   1 }']


@pytest.mark.parametrize(("value", "raw"), [(int, None), (int, b"x"), (int | None, b"x")], ids=str)
def test_a_value_that_cannot_be_read_fails(value: Any, raw: bytes | None) -> None:
    app, source, _table, _ = app_with_table(value)
    with TestDriver(app) as driver:
        with pytest.raises(KStreamError, match="in"):
            driver.send_raw(source, raw, key=b"a")
            driver.commit()
        driver.close(commit=False)


def test_agents_read_it_and_their_records_see_their_own_change() -> None:
    app, source, table, _ = app_with_table()
    seen = app.topic("seen", key=str, value=int)

    @app.agent(source, to=seen)
    def look(n: int | None, ctx: kstream.Context[str]) -> int:
        return int(table.get(ctx.key, -1))

    with TestDriver(app, partitions=1) as driver:
        for data in (b"1", b"2", None, b"3"):
            driver.cluster.append("in", b"a", data)
        assert driver.values(seen) == [1, 2, -1, 3]


def test_a_row_that_an_agent_changes_in_place_fails_the_commit() -> None:
    app, source, table, _ = app_with_table(list[int])

    @app.agent(source)
    def spoil(n: list[int], ctx: kstream.Context[str]) -> None:
        table[ctx.key].append(9)

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, [1], key="a")
        with pytest.raises(kstream.ProcessingError, match="'latest'"):
            driver.commit()
        driver.close(commit=False)
