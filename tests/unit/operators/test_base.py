"""Operators hand batches on; where state is kept further on, children share no objects."""

from __future__ import annotations

import msgspec
import pytest

import kstream
from kstream.testing import TestDriver


class Box(msgspec.Struct):
    n: int


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("poll", [1, 3])
def test_an_object_kept_as_state_and_changed_later_does_not_show_in_a_sibling(poll: int, mapped: bool) -> None:
    app = kstream.App("kept")
    source, out = app.topic("in", key=str, value=Box), app.topic("out", key=str, value=int)
    table = app.table("kept", key=str, value=Box)
    stream = app.stream(source)
    if mapped:
        stream = stream.map(lambda box: Box(box.n), value=Box)

    @app.agent(stream)
    def keep(box: Box, ctx: kstream.Context[str]) -> None:
        kept = table.get(ctx.key)
        if kept is None:
            kept = box  # the record's own object becomes the state
        else:
            kept.n += box.n
        table[ctx.key] = kept

    @app.agent(stream, to=out)
    def look(box: Box) -> int:
        return box.n

    with TestDriver(app, partitions=1) as d:
        d.cluster.batch_sizes = iter([poll] * 9)
        for n in (1, 2, 3):
            d.cluster.append("in", b"k", b'{"n":%d}' % n)
        assert d.values(out) == [1, 2, 3]
        assert d.table(table)["k"] == Box(6)
