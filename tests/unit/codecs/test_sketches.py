"""HyperLogLog: how far off it is, and that neither writing nor merging it shows."""

from __future__ import annotations

import random
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.dsl import keeping
from kstream.errors import CodecError, TopologyError
from kstream.testing import TestDriver

pytest.importorskip("datasketches")
from kstream.codecs.sketches import HyperLogLog, HyperLogLogCodec


def same(value: Any) -> Any:
    return value


def sketched(texts: list[str], lg_k: int = 12) -> HyperLogLog:
    sketch = HyperLogLog(lg_k)
    for text in texts:
        sketch.add(text)
    return sketch


@pytest.mark.parametrize(("error", "bytes_at_most"), [(0.2, 60), (0.02, 2150), (0.005, 33_000)])
def test_results_are_within_the_error(error: float, bytes_at_most: int) -> None:
    made = keeping.distinct(same, str, error)
    chance, codec = random.Random(5), made.kept
    off = []
    for _ in range(40):
        names = [
            f"{chance.getrandbits(64):x}"
            for _ in range(chance.choice((1000, 5000, 20000)) // (4 if error < 0.02 else 1))
        ]
        kept = made.initial()
        for name in [*names, *names[:100]]:
            kept = made.fold(kept, name)
        halves = [made.initial(), made.initial()]
        for number, name in enumerate(names):
            halves[number % 2] = made.fold(halves[number % 2], name)
        off += [made.result(one) / len(names) - 1 for one in (kept, made.merge(*halves))]
        assert len(codec.encode(kept)) <= bytes_at_most
    within = sorted(abs(one) / error for one in off)
    assert within[len(off) * 2 // 3] <= 1 and within[len(off) * 9 // 10] <= 2 and within[-1] <= 4


@given(st.integers(0, 2**32), st.sampled_from([10, 300, 3000]), st.sampled_from([4, 7, 12]))
def test_cuts_do_not_show(seed: int, count: int, lg_k: int) -> None:
    """The same values give the same bytes, however often they were written and read back in between."""
    chance, codec = random.Random(seed), HyperLogLogCodec(lg_k)
    whole, cut = HyperLogLog(lg_k), HyperLogLog(lg_k)
    for number in range(count):
        text = f"{chance.randrange(count)}"
        whole.add(text)
        cut.add(text)
        if chance.random() < 20 / count:
            cut = codec.decode(codec.encode(cut))
        if number == count // 2:
            others = sketched([f"o{number}" for number in range(chance.randrange(count))], lg_k)
            whole, cut = whole.merged(others), cut.merged(codec.decode(codec.encode(others)))
    assert codec.encode(whole) == codec.encode(cut) == codec.encode(codec.decode(codec.encode(cut)))
    assert whole.estimate() == cut.estimate()


def test_few_are_counted_exactly() -> None:
    assert [sketched([str(n) for n in range(count)]).estimate() for count in (0, 1, 10, 200)] == [0, 1, 10, 200]
    assert repr(sketched(["a", "b", "a", ""])) == "about 3 different"


@pytest.mark.parametrize(
    ("of", "values"),
    [
        (str, ["", "a", "\u00e9", "\ud7ff", "e\u0301"]),
        (bytes, [b"", b"\xe9", b"\xc3\xa9", b"\x00"]),
        (int, [0, 1, -1, 2**70]),
        (float, [0.0, -0.0, 1.5]),
        (tuple[str, int], [("a", 1), ("a", 2), ("\u00e9", 1)]),
        (None, ["1", 1, {"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    ],
)
def test_values_of_all_types_are_told_apart(of: Any, values: list[Any]) -> None:
    exactly, about = (keeping.distinct(same, of, error) for error in (None, 0.02))
    found = []
    for made in (exactly, about):
        kept = made.initial()
        for value in [*values, None, *values]:
            kept = made.fold(kept, value)
        found.append(made.result(kept))
    # b"" and b"\x00" are one in a sketch
    assert found == [found[0], found[0] - (of is bytes)]


@pytest.mark.parametrize("error", [None, 0.02])
def test_what_is_no_text_is_said_alike(error: float | None) -> None:
    made = keeping.distinct(same, str, error)
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        made.fold(made.initial(), "\ud800")


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 40, HyperLogLogCodec(12).encode(sketched(["a"] * 9))[:9]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="this is no HyperLogLog"):
        HyperLogLogCodec(12).decode(data)


def test_another_number_of_registers_is_refused() -> None:
    with pytest.raises(CodecError, match=r"of 2\^11 registers, and not of 2\^12"):
        HyperLogLogCodec(12).decode(HyperLogLogCodec(11).encode(sketched(["a"], 11)))


@pytest.mark.parametrize(("error", "lg_k"), [(0.2, 5), (0.03, 11), (0.02, 12), (0.01, 14), (0.002, 19)])
def test_the_error_decides_about_registers(error: float, lg_k: int) -> None:
    assert keeping.distinct(same, str, error).layout == f"HyperLogLog with 2^{lg_k} registers"
    assert 1.04 / 2 ** (lg_k / 2) <= error < 1.04 / 2 ** ((lg_k - 1) / 2)


def test_without_the_library_the_declaration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kstream.codecs.sketches")
    monkeypatch.setitem(sys.modules, "datasketches", None)
    app = kstream.App("about")
    group = app.stream(app.topic("in", key=str, value=str)).group_by_key()
    with pytest.raises(TopologyError, match=r"needs datasketches \(pip install 'kstream\[sketches\]'\)"):
        group.count_distinct(same, error=0.02)


@pytest.mark.parametrize("emit", ["update", "commit", "close"])
def test_results_are_those_of_a_run_without_crashes(emit: Any) -> None:
    app = kstream.App("about")
    kind: Any = int if emit == "close" else int | None
    source = app.topic("in", key=str, value=str)
    fixed = app.topic("fixed", key=kstream.Windowed[str], value=int)
    sessions = app.topic("sessions", key=kstream.WindowedSpan[str], value=kind)
    group = app.stream(source).group_by_key()
    windows = group.window(kstream.Tumbling(seconds=2), grace=timedelta(0))
    windows.count_distinct(same, of=str, error=0.02, name="fixed", emit=emit).to(fixed)
    group.window(kstream.Session(seconds=1), grace=timedelta(seconds=1)).count_distinct(
        same, of=str, error=0.02, name="sessions", emit=emit
    ).to(sessions)
    chance = random.Random(8)
    sent = [(str(chance.randrange(3000)), at) for at in range(10_000, 14_000, 4)]
    results = []
    for crashes in (False, True):
        with TestDriver(app, partitions=1) as driver:
            for value, at in [*sent, ("end", 30_000)]:
                driver.send(source, value, key="a", timestamp=at)
                if crashes and chance.random() < 0.05:
                    driver.crash() if chance.random() < 0.5 else driver.commit()
            driver.commit()
            told = [{record.key: record.value for record in driver.records(topic)} for topic in (fixed, sessions)]
            results.append([{key: value for key, value in one.items() if value is not None} for one in told])
    assert results[0] == results[1]
    distinct = len({value for value, _ in sent})
    [whole] = [value for key, value in results[0][1].items() if key.end < 20_000]
    assert abs(whole / distinct - 1) < 0.04
