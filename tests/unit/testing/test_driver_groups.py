"""Isolation groups in the TestDriver: one worker each, over one cluster."""

from __future__ import annotations

import kstream


def shouted(value: str) -> str:
    return value.upper()


def first(value: str) -> str:
    return value[0]


def test_groups_work_side_by_side_and_crash_together() -> None:
    app = kstream.App("shop")
    words = app.topic("words", key=str, value=str)
    loud = app.topic("loud", key=str, value=str)
    app.agent(words, to=loud, group="critical")(shouted)
    counted = app.stream(words).group_by(first, name="by-letter", group="cpu").count(name="letters")
    with kstream.TestDriver(app) as d:
        for word in ("alpha", "beta", "avocado"):
            d.send(words, word, key=word)
        assert d.values(loud) and sorted(d.values(loud)) == ["ALPHA", "AVOCADO", "BETA"]
        d.send(words, "almond", key="x")
        d.crash()
        assert dict(d.table(counted)) == {"a": 3, "b": 1}
        assert len(d.values(loud)) == 4
        groups = {worker.worker.group: sorted(worker.tasks) for worker in d._workers}
        assert groups["cpu"] == [f"shop-by-letter-repartition@cpu/{n}" for n in range(4)]
        assert groups["critical"] == [f"words@critical/{n}" for n in range(4)]
        assert groups["default"] == [f"words/{n}" for n in range(4)]
