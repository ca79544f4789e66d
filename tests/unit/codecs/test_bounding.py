"""How deep JSON may be and how long its numbers: compared with a plain reading of it, and in an app."""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any

import pytest

import kstream
from kstream.codecs import JsonBounds, resolve
from kstream.codecs.bounding import deeper, longer_number
from kstream.errors import ConfigError
from kstream.testing import TestDriver

STRINGS = ["", "a", "[", "]", "{[", '"', '\\"]', "\\", "\\\\", "}]" * 9, "7" * 40, '["' * 20, '\\\\"[', "1e5"]
NUMBERS = ["0", "-1", "3.25", "1e5", "-1.5E-10", "7" * 23, "7" * 24, "7" * 25, "0." + "1" * 40, "1" * 100]


def made(pick: random.Random, deep: int) -> str:
    """JSON as text, of any form."""
    kind = pick.randrange(4) if deep else pick.randrange(2)
    if kind == 0:
        return json.dumps(pick.choice(STRINGS))
    if kind == 1:
        return pick.choice(NUMBERS)
    parts = [made(pick, pick.randrange(deep)) for _ in range(pick.randrange(6))] + [made(pick, deep - 1)]
    pick.shuffle(parts)
    if kind == 2:
        return "[" + pick.choice((",", " ,\n")).join(parts) + "]"
    return "{" + ",".join(f"{json.dumps(pick.choice(STRINGS))}:{part}" for part in parts) + "}"


def depth_of(text: str) -> int:
    now = most = 0
    for char in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        now += (char in "[{") - (char in "]}")
        most = max(most, now)
    return most


def longest_number_of(text: str) -> int:
    return max(map(len, re.findall(r"[-+.0-9eE]+", re.sub(r'"(?:[^"\\]|\\.)*"', " ", text))), default=0)


@pytest.mark.parametrize("seed", range(20))
def test_depth_and_number_are_those_of_a_plain_reading(seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(50):
        text = made(pick, pick.randrange(12))
        json.loads(text)
        data, depth, number = text.encode(), depth_of(text), longest_number_of(text)
        for bound in range(max(1, depth - 6), depth + 3):
            assert deeper(data, bound) == (depth if depth > bound else 0), (text, bound)
        for bound in (24, 25, 39, 40, 41, 42, 43, 99, 100, 101):
            assert bool(longer_number(data, bound)) is (number > bound), (text, bound)


@pytest.mark.parametrize("length", [24, 25, 63, 64, 65, 1000, 4300])
def test_a_number_too_long_is_found_wherever_it_lies(length: int) -> None:
    for before in [*range(70), length // 2, length - 1, length, length + 1, 3 * length]:
        for behind in (b"]", b"," + b"1," * length + b"1]"):
            start = b"[" + b" " * before
            assert not longer_number(start + b"7" * length + behind, length)
            assert longer_number(start + b"7" * (length + 1) + behind, length) == length + 1


KINDS = {"any": Any, "dict": dict, "list": list[Any], "typed": dict[str, Any]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_out_of_bounds_is_named(kind: str) -> None:
    codec, bounds = resolve(KINDS[kind], what="value"), JsonBounds(depth=10, number=30)
    good = [b'{"a":[1]}', None, b"[" * 10 + b"]" * 10, b"[" + b"7" * 30 + b"]", b'"' + b"7" * 99 + b'"', b"no JSON"]
    assert bounds.outside(codec, good) is None
    index, error = bounds.outside(codec, [*good, b"[" * 11 + b"]" * 11]) or (0, None)
    assert (index, str(error)) == (
        6,
        f"JSON of 11 levels, more than max_json_depth (10) (in {b'[' * 11 + b']' * 11!r})",
    )
    index, error = bounds.outside(codec, [b"[1," + b"7" * 31 + b"]", *good]) or (9, None)
    assert index == 0
    assert str(error).startswith("a number of 31 characters in JSON, more than max_number_length (30) (in b'[1,777")


def test_what_is_no_json_has_neither_depth_nor_numbers() -> None:
    for kind in (str, bytes):
        assert JsonBounds(1, 24).outside(resolve(kind, what="value"), [b"[[[[" + b"7" * 99]) is None


HOSTILE = {
    "open": b"[" * 4_000_000,
    "pairs": b"[" + b"[]," * 1_300_000 + b"0]",
    "as deep as may be": b"[" + b",".join([b"[" * 249 + b"]" * 249] * 8000) + b"]",
    "brackets in strings": b'{"a":' + b'["]",' * 800_000,
    "quotes in strings": b'["' + b'\\"[' * 1_300_000 + b'"]',
    "digits": b"7" * 4_000_000,
    "digits in a string": b'"' + b"7" * 4_000_000 + b'"',
    "numbers as long as may be": b"[" + b",".join([b"7" * 1000] * 4000) + b"]",
    "strings that do not end": b'"7' * 2_000_000,
    "backslashes": b'"' + b"\\" * 4_000_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_looking_takes_time_that_grows_no_faster_than_the_record(case: str) -> None:
    """4 MB in a fraction of a second; what looks at each byte again and again takes minutes."""
    codec, bounds = resolve(Any, what="value"), JsonBounds(250, 1000)
    began = time.process_time()
    bounds.outside(codec, [HOSTILE[case]])
    assert time.process_time() - began < 5.0


# ---- in an app


def deep(levels: int) -> bytes:
    return b"[" * (levels - 1) + b"[1]" + b"]" * (levels - 1)


BAD = {"deep": b'{"a":' + deep(250) + b"}", "number": b'{"a":' + b"7" * 4301 + b"}"}
GOOD = {"deep": b'{"a":' + deep(249) + b"}", "number": b'{"a":0.' + b"7" * 4298 + b"}"}


def app_of() -> tuple[kstream.App, Any]:
    app = kstream.App("bounded", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=dict)
    out = app.topic("out", key=str, value=dict)
    app.stream(source).filter(lambda value: "no" not in value).map(lambda value: value, value=dict).to(out)
    return app, out


def put(d: TestDriver, key: bytes | None, *values: bytes, topic: str = "in") -> None:
    for value in values:
        d.cluster.append(topic, key, value)
    d.advance(1.0)


def letters(d: TestDriver) -> list[tuple[bytes | None, dict[str, bytes | None]]]:
    return [(row.value, dict(row.headers or ())) for row in d.cluster.records("bounded-dead-letters")]


@pytest.mark.parametrize("what", BAD)
def test_a_record_out_of_bounds_reaches_the_policy_as_one_that_cannot_be_decoded(what: str) -> None:
    app, out = app_of()
    with TestDriver(app) as d:
        put(d, b"k", b'{"n":1}', GOOD[what], BAD[what], b'{"n":2}', BAD[what])
        assert len(d.values(out)) == 3 and d.values(out)[-1] == {"n": 2}
        assert [value for value, _ in letters(d)] == [BAD[what]] * 2
        for _, headers in letters(d):
            assert headers["kstream.phase"] == b"decode"
            assert headers["__streams.errors.exception"] == b"kstream.errors.JsonOutOfBounds"
            setting = {"deep": b"max_json_depth (", "number": b"max_number_length ("}[what]
            assert setting in (headers["__streams.errors.message"] or b"")


def test_the_bounds_can_be_set() -> None:
    app, out = app_of()
    with TestDriver(app, max_json_depth=2, max_number_length=24) as d:
        put(d, b"k", b'{"a":[1]}', b'{"a":[[1]]}', b'{"a":' + b"7" * 24 + b"}", b'{"a":' + b"7" * 25 + b"}")
        assert d.values(out) == [{"a": [1]}, {"a": int("7" * 24)}]
        assert len(letters(d)) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_json_depth", 0),
        ("max_json_depth", 901),
        ("max_json_depth", True),
        ("max_json_depth", "deep"),
        ("max_number_length", 23),
        ("max_number_length", 4301),
        ("max_number_length", 99.5),
    ],
)
def test_odd_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: .* is not a whole number from \d+ to \d+$"):
        kstream.config.Settings(**{name: value})  # type: ignore[arg-type]


def test_the_deepest_that_can_be_set_can_be_read() -> None:
    """Python's limit of recursion is further away, whatever lies on the stack."""
    app = kstream.App("bounded", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=list), app.topic("out", key=str, value=int)
    app.stream(source).map(len, value=int).to(out)
    with TestDriver(app, max_json_depth=900) as d:
        put(d, b"k", deep(900))
        assert (d.values(out), letters(d)) == ([1], [])


def test_a_key_is_held_to_them_too() -> None:
    app = kstream.App("bounded", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=list[Any], value=int), app.topic("out", key=int, value=int)

    @app.agent(source, to=out)
    def length(value: int, ctx: kstream.Context[list[Any]]) -> kstream.Record[int, int]:
        return kstream.Record(len(ctx.key), value)

    with TestDriver(app, max_json_depth=2) as d:
        put(d, b"[[1]]", b"1")
        put(d, b"[[[1]]]", b"2")
        assert d.values(out) == [1]
        ((value, headers),) = letters(d)
        assert (value, headers["kstream.phase"]) == (b"2", b"decode")


def test_inputs_that_are_ordered_by_a_field_are_held_to_them_before_it_is_read() -> None:
    app = kstream.App("bounded", on_error=[kstream.DeadLetter()])
    out = app.topic("out", key=str, value=int)
    seen = app.table("seen", key=str, value=int, default=int)

    def count(value: dict[Any, Any], ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        return seen[ctx.key]

    for name in ("in", "other"):
        app.agent(app.topic(name, key=str, value=dict, timestamp="at"), to=out, name=name)(count)
    with TestDriver(app, max_json_depth=2) as d:
        put(d, b"k", b'{"at":1,"a":[1]}', b'{"at":2,"a":[[1]]}', b'{"at":3}')
        put(d, b"k", b'{"at":4}', topic="other")
        assert sorted(d.values(out)) == [1, 2, 3]
        assert [value for value, _ in letters(d)] == [b'{"at":2,"a":[[1]]}']
