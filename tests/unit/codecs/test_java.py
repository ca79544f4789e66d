"""What kstream writes is read by the classes that Java's users have, and the other way round. Skipped without a JDK."""

from __future__ import annotations

from datetime import timedelta

import pytest

import kstream
from kstream import Windowed, WindowedSpan
from kstream.codecs import resolve
from kstream.testing import TestDriver
from support.javac import call

pytestmark = [pytest.mark.more, pytest.mark.timeout(300)]

KEYS = ["ann", "\u00e9\U0001f600", "with\x00zero", "x" * 300, ""]
TIMES = [0, 1, 60_000, 1_700_000_000_123, 2**62]
SIZE = 60_000


def test_keys_of_windows() -> None:
    windowed, span = resolve(Windowed[str], what="", key=True), resolve(WindowedSpan[str], what="", key=True)
    pairs = [(key, start) for key in KEYS for start in TIMES]
    ends = [start + 5 for _, start in pairs]
    ours = [windowed.encode(Windowed(*pair)).hex() for pair in pairs]
    sessions = [span.encode(WindowedSpan(*pair, end)).hex() for pair, end in zip(pairs, ends, strict=True)]
    both = [(key.encode().hex(), start, end) for (key, start), end in zip(pairs, ends, strict=True)]
    found = iter(
        call(
            *(f"read-time {one} {SIZE}" for one in ours),
            *(f"read-session {one}" for one in sessions),
            *(f"write-time {start} {start + SIZE} {key}" for key, start, _ in both),
            *(f"write-session {start} {end} {key}" for key, start, end in both),
        )
    )
    for wanted in (
        [f"{key} {start} {start + SIZE}" for key, start, _ in both],
        [f"{key} {start} {end}" for key, start, end in both],
        ours,
        sessions,
    ):
        assert [next(found) for _ in both] == wanted
    assert [windowed.decode(bytes.fromhex(one)) for one in ours] == [Windowed(*pair) for pair in pairs]


def test_what_an_app_writes_and_reads() -> None:
    app = kstream.App("java")
    source = app.topic("in", key=str, value=int)
    fixed, sessions = app.topic("fixed", key=Windowed[str], value=int), app.topic("sessions", key=WindowedSpan[str])
    days = app.topic("days", key=WindowedSpan[str], value=int)
    read, heard = app.topic("read", key=Windowed[str], value=int), app.topic("heard", key=str, value=str)
    group = app.stream(source).group_by_key()
    now = timedelta(0)
    group.window(kstream.Tumbling(minutes=1), grace=now).count(name="fixed", emit="close").to(fixed)
    group.window(kstream.Session(minutes=1), grace=now).count(name="s", emit="close").stream().map(str).to(sessions)
    group.window(kstream.LocalDays("UTC"), grace=now).count(name="days", emit="close").to(days)

    def hear(value: int, ctx: kstream.Context[Windowed[str]]) -> str:
        return f"{ctx.key.key} {ctx.key.start} {value}"

    app.stream(read).map(hear).rekey(lambda _: "all", key=str).to(heard)
    day = 86_400_000
    with TestDriver(app, partitions=1) as driver:
        for at in (125_000, 130_000, 3 * day):
            driver.send(source, 1, key="ann", timestamp=at)
        driver.commit()
        written = [driver.cluster.records(topic.name)[0].key or b"" for topic in (fixed, sessions, days)]
        found = call(
            f"read-time {written[0].hex()} 60000",
            *(f"read-session {one.hex()}" for one in written[1:]),
            f"write-time 180000 240000 {b'bob'.hex()}",
        )
        key = b"ann".hex()
        assert found[:3] == [f"{key} 120000 180000", f"{key} 125000 130000", f"{key} 0 {day - 1}"]
        driver.send_raw(read, b"7", key=bytes.fromhex(found[3]))
        assert driver.values(heard) == ["bob 180000 7"]


def test_sketches() -> None:
    pytest.importorskip("datasketches")
    from kstream.codecs.sketches import HyperLogLog, HyperLogLogCodec

    cases = [(12, 5), (12, 300), (12, 5_000), (5, 2_000), (14, 40_000)]
    ours = []
    for lg_k, count in cases:
        sketch = HyperLogLog(lg_k)
        for number in range(count):
            sketch.add(f"u{number}")
        ours.append((sketch, HyperLogLogCodec(lg_k).encode(sketch).hex()))
    found = iter(
        call(
            *(f"estimate {data}" for _, data in ours),
            *(f"sketch {lg_k} u {count}" for lg_k, count in cases),
            *(f"union {data} {lg_k} u {count}" for (lg_k, count), (_, data) in zip(cases, ours, strict=True)),
        )
    )
    for sketch, _ in ours:
        assert float(next(found)) == pytest.approx(sketch.sketch.get_estimate(), rel=1e-12)
    for (lg_k, _), (sketch, _) in zip(cases, ours, strict=True):
        theirs = HyperLogLogCodec(lg_k).decode(bytes.fromhex(next(found)))
        assert theirs.estimate() == sketch.estimate()
        assert theirs.merged(sketch).estimate() == pytest.approx(sketch.estimate(), rel=0.1 if lg_k < 10 else 0.03)
    for (lg_k, _), (sketch, _) in zip(cases, ours, strict=True):  # the same values: text counts as theirs does
        assert float(next(found)) == pytest.approx(sketch.estimate(), rel=0.1 if lg_k < 10 else 0.03)
