"""What an app writes can be read back, or is refused at the record that wrote it, as in production."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import kstream
from kstream.building import untyped
from kstream.errors import CodecError, KStreamError, ProcessingError
from kstream.testing import TestDriver


class Acc(msgspec.Struct):
    total: int = 0
    mean: float = 0.0
    counts: dict[str, int] = msgspec.field(default_factory=dict)


def an_app(value: Any = str, out: Any = str, **more: Any) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("x")
    return app, app.topic("in", key=str, value=value, **more), app.topic("out", key=str, value=out)


class TestTables:
    @pytest.mark.parametrize(
        "kind,bad",
        [
            (Acc, Acc(total=0.5)),  # type: ignore[arg-type]
            (Acc, Acc(mean=math.inf)),
            (Acc, Acc(counts=Counter("a"))),
            (dict[str, float], {"mean": math.nan}),
            (tuple[int, int], [1, 2]),
            (list[int], ["x"]),
            (int, True),
            (dict, {"a": (1, 2)}),
        ],
    )
    @pytest.mark.parametrize("form", ["put", "changed in place", "after a good one"])
    def test_a_value_is_refused_at_its_record(self, kind: Any, bad: Any, form: str) -> None:
        app, source, _ = an_app()
        table = app.table("kept", key=str, value=kind)

        @app.agent(source)
        def put(value: str, ctx: kstream.Context[str]) -> None:
            if value == "bad":
                table[ctx.key] = bad

        with TestDriver(app, partitions=1) as driver:
            driver.send(source, "good", key="a")
            with pytest.raises(ProcessingError, match=r"in\[0\] offset 1: CodecError: table 'kept'\['b'\]: a value of"):
                driver.send(source, "bad", key="b")

    @pytest.mark.parametrize("emit", ["update", "commit"])
    def test_an_accumulator_is_refused(self, emit: Any) -> None:
        app, source, _ = an_app(float)

        def add(acc: Acc, value: float) -> Acc:
            acc.total += value  # type: ignore[assignment]
            return acc

        app.stream(source).group_by_key().aggregate(Acc, add, name="sums", emit=emit)
        with TestDriver(app, partitions=1) as driver, pytest.raises(KStreamError, match=r"table 'sums'.* type Acc"):
            driver.send(source, 0.5, key="a")
            driver.commit()

    @pytest.mark.parametrize("bad", ["5", True, 5.0, None])
    @pytest.mark.parametrize("how", ["put", "get", "in", "index", "del"])
    def test_a_key_of_another_type(self, bad: Any, how: str) -> None:
        app, source, _ = an_app()
        table = app.table("t", key=int, value=int, default=int, scope="partition")
        uses: dict[str, Any] = {
            "put": lambda: table.__setitem__(bad, 1),
            "get": lambda: table.get(bad),
            "in": lambda: bad in table,
            "index": lambda: table[bad],
            "del": lambda: table.__delitem__(bad),
        }

        @app.agent(source, tables=[table])
        def agent(value: str) -> None:
            uses[how]()

        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match=r"key of table 't'"):
            driver.send(source, "x", key="k")

    def test_equal_keys_of_different_bytes_are_both_shown(self) -> None:
        app = kstream.App("x")
        source = app.topic("in", key=Decimal, value=str)
        counts = app.stream(source).group_by_key().count(name="n")
        with TestDriver(app, partitions=1) as driver:
            for key in ("1.0", "1.00", "1.0"):
                driver.send(source, "x", key=Decimal(key))
            view = driver.table(counts)
            assert (len(view), view[Decimal("1.0")], view[Decimal("1.00")]) == (2, 2, 1)
            assert sorted(map(str, view)) == ["1.0", "1.00"]
            with pytest.raises(KeyError):
                view[Decimal(2)]


class TestGroupKeys:
    def test_of_another_type_than_annotated(self) -> None:
        app, source, _ = an_app(dict)

        def by(value: dict[str, Any]) -> int:
            return value["id"]  # type: ignore[no-any-return]

        app.stream(source).group_by(by, name="by").count(name="n")
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, {"id": 7}, key="k")
            with pytest.raises(
                ProcessingError, match=r"in\[0\] offset 1: .*a value of type str, where int was declared"
            ):
                driver.send(source, {"id": "7"}, key="k")

    def test_that_come_back_as_something_else(self) -> None:
        app, source, _ = an_app(dict)
        app.stream(source).group_by(lambda value: (value["a"], value["b"]), name="by").count(name="n")
        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="declare key=<type>"):
            driver.send(source, {"a": 1, "b": 2}, key="k")

    def test_dicts_are_one_group_whatever_their_order(self) -> None:
        app, source, _ = an_app(list)
        n = app.stream(source).group_by(dict, key=dict, name="by").count(name="n")
        with TestDriver(app) as driver:
            driver.send(source, [["a", 1], ["b", 2]], key="k")
            driver.send(source, [["b", 2], ["a", 1]], key="k")
            assert list(driver.table(n).items()) == [({"a": 1, "b": 2}, 2)]


class TestOutputs:
    @pytest.mark.parametrize("value", [{"a": (1, 2)}, {"a": uuid.UUID(int=1)}, {"a": math.nan}, {"a": Counter("b")}])
    @pytest.mark.parametrize("form", ["value", "record", "send", "async", "map"])
    def test_untyped(self, value: Any, form: str) -> None:
        app, source, out = an_app(str, dict)
        if form == "map":
            app.stream(source).map(lambda _: value).to(out)
        elif form == "async":

            @app.agent(source, to=out)
            async def agent(stream: kstream.AgentStream[str, str]) -> AsyncIterator[Any]:
                async for _ in stream:
                    yield value

        else:

            @app.agent(source, to=out)
            def plain(_: str, ctx: kstream.Context[str]) -> Any:
                if form == "send":
                    return ctx.send(out, value)
                return kstream.Record("k", value) if form == "record" else value

        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="declare value=<type>"):
            driver.send(source, "x", key="k")

    def test_large_integers_pass(self) -> None:
        app, source, out = an_app(None, None)
        app.stream(source).map(lambda value: value).to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.cluster.append("in", b"k", b'{"id":36893488147419103233}')
            driver.commit()
            assert driver.cluster.records("out")[0].value == b'{"id":36893488147419103233}'

    def test_json_null_is_none_where_that_is_declared(self) -> None:
        app, source, out = an_app(Acc | None, str)
        app.stream(source).map(repr, value=str).to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.cluster.append("in", b"k", b"null")
            driver.process()
            assert driver.values(out) == ["None"]


class TestHeadersAndTimestamps:
    @pytest.mark.parametrize(
        "bad", [[("attempt", 3)], ["x"], [(b"k", b"v")], {"a": b"1"}, [("a", {"b": 1})], [("a",)], "ab"]
    )
    @pytest.mark.parametrize("form", ["record", "send"])
    def test_headers_that_the_client_would_not_take(self, bad: Any, form: str) -> None:
        app, source, out = an_app()

        @app.agent(source, to=out)
        def agent(value: str, ctx: kstream.Context[str]) -> Any:
            return kstream.Record("k", value, headers=bad) if form == "record" else ctx.send(out, value, headers=bad)

        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="header"):
            driver.send(source, "x", key="k")

    def test_headers_have_one_form(self) -> None:
        app, source, out = an_app()
        given: Any = (("attempt", "3"), ["raw", b"1"], ("none", None))
        app.agent(source, to=out, name="a")(lambda value: kstream.Record("k", value, headers=given))
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, "x", key="k")
            assert driver.records(out)[0].headers == [("attempt", b"3"), ("raw", b"1"), ("none", None)]

    @pytest.mark.parametrize("at", [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), 1_704_067_200_000])
    def test_a_datetime_is_taken(self, at: Any) -> None:
        app, source, out = an_app()
        app.agent(source, to=out, name="a")(lambda value: kstream.Record("k", value, timestamp=at))
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, "x", key="k")
            assert driver.records(out)[0].timestamp == 1_704_067_200_000

    @pytest.mark.parametrize("bad", ["now", 1.5, True, -1, 0, 2**63, datetime(1970, 1, 1), datetime(1969, 1, 1)])
    def test_a_timestamp_that_the_client_would_not_take(self, bad: Any) -> None:
        app, source, out = an_app()
        app.agent(source, to=out, name="a")(lambda value: kstream.Record("k", value, timestamp=bad))
        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="time"):
            driver.send(source, "x", key="k")

    @pytest.mark.parametrize("form", ["sink", "agent", "group_by"])
    def test_the_epoch_is_refused_since_the_client_takes_it_for_now(self, form: str) -> None:
        app, source, out = an_app()
        if form == "sink":
            app.stream(source).to(out)
        elif form == "agent":
            app.agent(source, to=out, name="a")(lambda value: kstream.Record("k", value))
        else:
            app.stream(source).group_by(str.lower, key=str, name="by").count(name="n")
        with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="1970-01-01T00:00:00Z"):
            driver.send(source, "x", key="k", timestamp=0)


class TestDeclarations:
    def test_what_is_kept_without_a_type_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        app, source, _ = an_app(dict)
        grouped = app.stream(source).group_by(lambda value: value["k"], name="by")
        grouped.min(lambda value: value["n"], name="least")
        grouped.count(name="n")
        app.stream(source).group_by_key(name="typed").sum(lambda value: value["n"], value=int, name="sums")
        assert untyped(app.topology()) == [
            "table 'least' keeps keys and values of an undeclared type, as untyped JSON: annotate the function's "
            "result, or declare key= and value=<type>",
            "table 'n' keeps keys of an undeclared type, as untyped JSON: annotate the function's result, "
            "or declare key=<type>",
        ]
        with caplog.at_level(logging.WARNING), TestDriver(app):
            assert sum("undeclared type" in record.message for record in caplog.records) == 2

    def test_every_aggregation_takes_a_codec(self) -> None:
        class Text:
            def encode(self, value: int) -> bytes:
                return b"n=%d" % value

            def decode(self, data: bytes) -> int:
                return int(data[2:])

        app, source, _ = an_app(int)
        grouped = app.stream(source).group_by_key()
        grouped.count(name="n", value=Text())
        grouped.reduce(lambda one, other: one + other, name="r", value=Text())
        with TestDriver(app, partitions=1) as driver:
            for number in (3, 4):
                driver.send(source, number, key="k")
            driver.commit()
            assert [driver.cluster.records(f"x-{name}-changelog")[-1].value for name in "nr"] == [b"n=2", b"n=7"]


class TestWhatATestSends:
    """Is what a Record could be, too."""

    def test_headers_and_naive_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        try:
            app, source, out = an_app()
            app.agent(source, to=out, name="a")(lambda v, ctx: kstream.Record(ctx.key, v, headers=ctx.headers))
            with TestDriver(app, partitions=1) as driver:
                driver.send(source, "x", key="k", headers=[("from", "web")], timestamp=datetime(2024, 1, 1))
                (record,) = driver.records(out)
            assert record.headers == [("from", b"web")]
            assert record.timestamp == datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize("bad", [{"headers": [("a", 1)]}, {"headers": {"a": b"x"}}, {"timestamp": 5.5}])
    def test_what_no_record_has_is_refused(self, bad: Any) -> None:
        app, source, out = an_app()
        app.stream(source).to(out)
        with TestDriver(app, partitions=1) as driver, pytest.raises(CodecError):
            driver.send(source, "x", key="k", **bad)


@pytest.mark.parametrize("header", [("\ud800", b"x"), ("a", "\ud800"), ("a\0b", b"x")], ids=ascii)
def test_headers_that_the_client_would_change_are_refused(header: Any) -> None:
    app, source, out = an_app()
    app.agent(source, to=out, name="a")(lambda v: kstream.Record("k", v, headers=[header]))
    with TestDriver(app, partitions=1) as driver, pytest.raises(ProcessingError, match="topic 'out': the header"):
        driver.send(source, "x", key="k")
